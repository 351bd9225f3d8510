"""Contexts in parts for training, choosing and testing, with nothing of one part in another.

What belongs together goes together: the contexts of a citing paper, and papers that share a sentence
(a preprint and its journal version, a thesis and its articles).
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.clean import Rejected
from data.errors import UserError
from data.formats import records

PARTS = ("train", "dev", "test")
_COLUMNS = ("text", "cited_id", "citing_id", "context_id", "window", "group_size", "year", "family")


@dataclass
class Split:
    """The rows of each part, and what was left out."""

    parts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The counts, for the report: of dev and test also how many cited papers train knows."""
        known = {row["cited_id"] for row in self.parts["train"]}
        counts: dict[str, Any] = {}
        for name, rows in self.parts.items():
            counts[name] = {
                "contexts": len(rows),
                "citing_papers": len({row["citing_id"] for row in rows}),
                "cited_papers": len({row["cited_id"] for row in rows}),
                "contexts_of_papers_cited_in_train": sum(row["cited_id"] in known for row in rows),
            }
        return counts | {"left_out": dict(self.left_out)}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a contexts file. Raises UserError for one without text, citing_id and cited_id."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; make one with: indexer contexts SOURCE --corpus CORPUS --out {path}"
        )
    rows = []
    for place, row in records(path, _COLUMNS):
        if isinstance(row, Rejected) or not isinstance(row, dict):
            raise UserError(f"{path}: {place} is no row ({row})")
        missing = [name for name in ("text", "citing_id", "cited_id") if not row.get(name)]
        if missing:
            raise UserError(f"{path}: {place} has no {missing[0]}, without which no split is free of leaks")
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no contexts in it")
    return rows


def by_paper(rows: Sequence[dict[str, Any]], dev: float, test: float, seed: int = 0) -> Split:
    """Shares of the citing papers, drawn by a hash: the same papers fall the same way in a larger file."""
    if min(dev, test) < 0 or dev + test >= 1:
        raise UserError(f"--dev {dev:g} and --test {test:g} leave nothing to train on; their sum is under 1")
    split = Split({name: [] for name in PARTS})
    groups = _groups(rows)
    for row, group in zip(rows, groups, strict=True):
        digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
        share = int.from_bytes(digest[:8]) / (1 << 64)
        part = "test" if share < test else "dev" if share < test + dev else "train"
        split.parts[part].append(row)
    return split


def by_year(rows: Sequence[dict[str, Any]], dev_year: int, test_year: int) -> Split:
    """Train on what was written before `dev_year`, choose on what came before `test_year`, test on the rest.

    A row without a year is left out, and so is a later one of papers that share a sentence across parts.
    """
    if dev_year > test_year:
        raise UserError(f"--dev-year {dev_year} is after --test-year {test_year}")
    split = Split({name: [] for name in PARTS})
    groups = _groups(rows)
    parts = [_part(row.get("year"), dev_year, test_year) for row in rows]
    first: dict[str, int] = {}
    for group, part in zip(groups, parts, strict=True):
        if part is not None:
            first[group] = min(first.get(group, part), part)
    for row, group, part in zip(rows, groups, parts, strict=True):
        if part is None:
            split.left_out["without a year"] += 1
        elif part != first[group]:
            split.left_out["of papers that share a sentence with an earlier part"] += 1
        else:
            split.parts[PARTS[part]].append(row)
    return split


def _part(year: Any, dev_year: int, test_year: int) -> int | None:
    if not isinstance(year, int):
        return None
    return 0 if year < dev_year else 1 if year < test_year else 2


def _groups(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each row the name of the papers that it belongs together with: the least of their ids."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    first: dict[str, str] = {}
    for row in rows:
        sentence = " ".join(str(row["text"]).lower().split())
        one, other = root(row["citing_id"]), root(first.setdefault(sentence, row["citing_id"]))
        above[max(one, other)] = min(one, other)
    return [root(row["citing_id"]) for row in rows]


def write(split: Split, folder: Path) -> None:
    """Each part as FOLDER/train.parquet and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.Table.from_pylist([row for rows in split.parts.values() for row in rows]).schema
    for name, rows in split.parts.items():
        half = folder / f"{name}.parquet.half"
        pq.write_table(pa.Table.from_pylist(rows, schema), half, compression="zstd", write_page_checksum=True)
        half.replace(folder / f"{name}.parquet")
