"""Citing contexts: a text with `[CITE]` where the citation belongs, and the papers it cites."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.clean import Rejected, text
from data.corpus import Reading
from data.errors import UserError

CITE = "[CITE]"
OTHER = "[OTHER]"
MAX_QUERY = 20_000  # characters: a long section; what is longer is a whole draft or a mistake
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\[\"'(])")


@dataclass(frozen=True, slots=True)
class Context:
    """Text around one mark: at most one CITE, every other citation an OTHER."""

    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """An evaluation query: one citing text and every paper that it cites at its mark."""

    query_id: str
    context: Context
    citing_id: str
    cited_ids: tuple[str, ...]


def parse(source: str) -> list[Context]:
    """The contexts of what a user typed: one for each `[CITE]`, or the whole text if it has none.

    A text with one mark is its context; of a text with several, each mark's context is its sentence
    and the one before. Raises UserError for an empty text and one over MAX_QUERY characters.
    """
    if len(source) > MAX_QUERY:
        raise UserError(
            f"the text has {len(source):,} characters, the limit is {MAX_QUERY:,}; search a part of it"
        )
    source = text(source)
    if not re.search(r"\w", source.replace(CITE, "").replace(OTHER, "")):
        raise UserError("the text is empty: type a sentence with [CITE] where the citation belongs")
    marks = source.count(CITE)
    if marks <= 1:
        return [Context(source)]
    contexts = []
    sentences = _SENTENCE.split(source)
    for number, sentence in enumerate(sentences):
        pieces = sentence.split(CITE)
        before = sentences[number - 1] + " " if number else ""
        for mark in range(1, len(pieces)):
            marked = OTHER.join(pieces[:mark]) + CITE + OTHER.join(pieces[mark:])
            contexts.append(Context(before.replace(CITE, OTHER) + marked))
    return contexts


def read_queries(source: str) -> tuple[list[Query], Reading]:
    """The queries of a contexts file (Parquet or JSON lines), or of a BEIR folder.

    A contexts file has rows of `text`, `cited_id` and optionally `citing_id`; rows with the same
    (citing_id, text) are one query with several cited papers. A BEIR folder has queries.jsonl and
    qrels.tsv or qrels/*.tsv (test before dev before train). Bad rows are rejected and counted.

    Raises UserError where nothing can be read.
    """
    path = Path(source)
    reading = Reading()
    if not path.exists():
        raise UserError(f"{source}: no such file or folder")
    rows = _beir(path) if path.is_dir() else _rows(path)
    grouped: dict[tuple[str, str], dict[str, None]] = {}
    names: dict[tuple[str, str], str] = {}
    for place, row in rows:
        reading.read += 1
        try:
            key, cited, name = _checked(row)
        except Rejected as error:
            reading.reject(place, str(error))
            continue
        grouped.setdefault(key, {})[cited] = None
        names.setdefault(key, name)
    if not grouped:
        first = f"; the first fault: {reading.rejects[0]}" if reading.rejects else ""
        raise UserError(f"{source}: no contexts with text and cited_id in it{first}")
    reading.accepted = reading.read - reading.rejected
    queries = [
        Query(names[key] or f"q{number}", Context(key[1]), key[0], tuple(cited))
        for number, (key, cited) in enumerate(grouped.items())
    ]
    return queries, reading


def _checked(row: Any) -> tuple[tuple[str, str], str, str]:
    if not isinstance(row, dict):
        raise Rejected(f"not a record but {type(row).__name__}")
    body, cited = text(row.get("text")), text(row.get("cited_id"))
    if not body or not cited:
        raise Rejected("no text" if not body else "no cited_id")
    return (text(row.get("citing_id")), body), cited, text(row.get("query_id"))


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".parquet":
        try:
            for number, row in enumerate(pq.read_table(path).to_pylist(), 1):
                yield f"row {number}", row
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as Parquet ({error})") from None
    elif path.suffix in (".jsonl", ".json"):
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from _json_rows(lines)
    else:
        raise UserError(f"{path}: contexts are .parquet or .jsonl files, or a BEIR folder")


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield f"line {number}", row


def _beir(path: Path) -> Iterator[tuple[str, Any]]:
    candidates = [
        path / "qrels.tsv",
        *(path / "qrels" / f"{n}.tsv" for n in ("test", "dev", "train")),
    ]
    qrels = next((c for c in candidates if c.exists()), None)
    if qrels is None or not (path / "queries.jsonl").exists():
        raise UserError(f"{path}: no BEIR folder (queries.jsonl and qrels.tsv or qrels/test.tsv)")
    texts = {}
    for _, row in _rows(path / "queries.jsonl"):
        if isinstance(row, dict):
            texts[str(row.get("_id"))] = row.get("text")
    for number, line in enumerate(qrels.read_text("utf-8", errors="replace").splitlines(), 1):
        query_id, cited, score = [*line.split("\t"), "", "", ""][:3]
        if number == 1 and not score.strip().lstrip("-").isdigit():
            continue  # the header
        if score.strip() != "0":
            yield (
                f"{qrels.name} line {number}",
                {"query_id": query_id, "text": texts.get(query_id), "cited_id": cited},
            )
