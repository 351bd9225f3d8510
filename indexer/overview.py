"""What an index is, for a reader who wants to know it: its papers, its files, how it was last measured."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data.table import PaperTable
from indexer.measures import CUTOFFS
from indexer.settings import beside
from indexer.store import Manifest

PARTS = {
    "papers.arrow": "records",
    "authors.arrow": "authors",
    "vectors.faiss": "vectors",
    "lists": "lists",
    "words": "words",
    "evidence": "known citations",
    "map.arrow": "map",
    "rejects.txt": "rejects",
}


@dataclass(frozen=True)
class Counts:
    """Papers by year, in order, and by category, the largest first; a paper counts in each of its own."""

    years: dict[int, int]
    no_year: int
    categories: dict[str, int]


def counts(papers: PaperTable) -> Counts:
    """The papers counted; reads two columns of the whole table."""
    years: Counter[int | None] = Counter()
    categories: Counter[str] = Counter()
    for values in papers.column("year"):
        years.update(_counted(values))
    for lists in papers.column("categories"):
        categories.update(_counted(lists.flatten()))
    return Counts(
        years={year: years[year] for year in sorted(y for y in years if y is not None)},
        no_year=years[None],
        categories=dict(sorted(categories.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _counted(values: pa.Array) -> dict[Any, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}


def storage(manifest: Manifest) -> dict[str, int]:
    """Bytes by part of the index; files that are no part of their own by their names."""
    sizes: dict[str, int] = {}
    for name, file in manifest.files.items():
        part = PARTS.get(name) or PARTS.get(name.split("/")[0], name)
        sizes[part] = sizes.get(part, 0) + int(file["bytes"])
    return sizes


def searched(manifest: Manifest) -> str:
    """How the vectors are searched, and what share of the answers of an exact search that finds."""
    facts: dict[str, Any] = getattr(manifest, "vectors", {})  # nothing is said where it is exact
    if facts.get("kind", "exact") == "exact":
        return "exact: every vector is compared, so that recall against an exact search is 1"
    return (
        f"{facts['kind']}: recall against an exact search is {facts['recall']:.3f}, measured with "
        f"{facts['queries']:,} queries"
    )


@dataclass(frozen=True)
class Measured:
    """The report of an evaluation: its rankings, each with its measures, intervals and seconds."""

    source: str
    contexts: int
    papers: int
    rows: list[dict[str, Any]]

    def table(self) -> list[dict[str, Any]]:
        """A row for each ranking: hit@k, MRR, nDCG@10 and milliseconds a query."""
        names = [*(f"hit@{k}" for k in CUTOFFS), "MRR", "nDCG@10"]
        return [{"ranking": row["name"]} | {name: row.get(name) for name in names} for row in self.rows]

    def curve(self) -> dict[str, list[Any]]:
        """The share of contexts whose paper is among the first k, as columns: k, share, ranking."""
        points = [(k, row.get(f"hit@{k}"), row["name"]) for row in self.rows for k in CUTOFFS]
        return dict(zip(("k", "share", "ranking"), map(list, zip(*points, strict=True)), strict=True))


def evaluation_of(index: Path) -> Path:
    """Where `indexer evaluate` leaves its report unless told otherwise: beside the index."""
    return beside(index, "-evaluation")


def last_evaluation(index: Path) -> Measured | None:
    """The report that the last `indexer evaluate` of this index left; None without one that can be read."""
    try:
        report = json.loads((evaluation_of(index) / "report.json").read_bytes())
        return Measured(
            str(report["source"]), int(report["contexts"]), int(report["papers"]), list(report["rows"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
