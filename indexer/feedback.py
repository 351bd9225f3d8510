"""Thumbs: which hits a reader found right or wrong, kept as pairs that `model.train --data` takes.

One JSON object a line: `text` (the context), `cited_id`, `label` (1 right, 0 wrong), and when.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from data.contexts import Context
from data.errors import UserError
from data.files import write_atomically
from indexer.settings import beside

Rated = dict[tuple[str, str], int]


def path_of(index: Path) -> Path:
    """Where the thumbs on the hits of an index are kept: beside it, `NAME-feedback.jsonl`."""
    return beside(index, "-feedback.jsonl")


def rate(path: Path, context: Context, paper_id: str, label: int | None) -> None:
    """Keep what a reader thinks of a paper for a context; None takes it back. The last word counts.

    Raises UserError where the file cannot be written.
    """
    try:
        with FileLock(path.with_name(path.name + ".lock")):
            rows = [row for row in _rows(path) if _key(row) != (context.text, paper_id)]
            if label is not None:
                at = datetime.now(UTC).isoformat(timespec="seconds")
                rows.append({"text": context.text, "cited_id": paper_id, "label": label, "at": at})
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(path, "".join(lines).encode())
    except OSError as error:
        raise UserError(f"{path}: the thumb cannot be kept ({error.strerror or error})") from None


def ratings(path: Path) -> Rated:
    """The label of each (context's text, paper_id) that was rated."""
    return {_key(row): int(row["label"] == 1) for row in _rows(path) if "label" in row}


def _key(row: dict[str, object]) -> tuple[str, str]:
    return str(row.get("text")), str(row.get("cited_id"))


def _rows(path: Path) -> list[dict[str, object]]:
    """The objects of the file; lines that are none, which a person may have left in it, are dropped."""
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
