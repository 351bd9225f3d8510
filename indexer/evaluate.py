"""Recall of an index on citing contexts, and what an answer costs: a row for each ranking."""

import json
import resource
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.contexts import Query, run_names
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer.calibration import Calibration, calibration
from indexer.measures import DEPTH, intervals, per_context, per_query
from indexer.rerank import Logits
from indexer.search import Searcher
from indexer.settings import DRAFT, RERANKED
from indexer.shards import Progress
from indexer.slices import Slices, slices

BATCH = 64
TIMED = 100  # queries that are asked one by one


@dataclass(frozen=True)
class Row:
    """One ranking's line of the report: the means, their 95% intervals, slices, and what it cost.

    `slices` has, for each part of the contexts, its `contexts`, `hit@10`, the `interval` of that, and
    `MRR`. `seconds` is for all queries in batches, `p50` and `p95` are milliseconds of single ones,
    `memory` is the process's greatest so far in MB.
    """

    name: str
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    slices: dict[str, dict[str, Any]]
    seconds: float
    p50: float
    p95: float
    memory: int

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {name: value for name, value in vars(self).items() if name != "means"} | self.means


@dataclass(frozen=True)
class Report:
    """An evaluation: a row for each ranking, and what was asked of which index."""

    rows: list[Row]
    queries: int
    contexts: int
    missing: int
    papers: int
    encoder: str
    source: str
    calibration: dict[str, Calibration]
    """Of each row that shows probabilities for the sentence alone."""
    drawn_from: int | None = None
    """How many queries there were, where those that were asked are a sample."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and the report file."""
        told = {row: measured.as_dict() for row, measured in self.calibration.items()}
        return vars(self) | {"rows": [row.as_dict() for row in self.rows], "calibration": told}


def evaluate(
    searcher: Searcher,
    queries: Sequence[Query],
    rankings: Sequence[str],
    out: Path | None = None,
    source: str = "",
    trained: Collection[str] | None = None,
    inductive: bool = False,
    progress: Progress = lambda *_: None,
    drawn_from: int | None = None,
) -> Report:
    """Search every query with each ranking over the whole corpus and score the runs.

    A cited paper that the corpus lacks counts as not found; how many there are is reported. With
    `out`, the folder gets `qrels.txt`, `run-<ranking>.txt` (TREC formats) and `report.json`. With
    `trained`, the ids that training contexts cite, these and the others are slices of their own.
    `rankings` are of STAGES. If `inductive`, only papers of the citing paper's year or before
    are candidates. `drawn_from` is told in the report.

    Citations by a query's own citing paper that the index knows are left out for that query.

    Raises UserError where the corpus has none of the cited papers, `out` cannot be written, or a reranker is
    asked for that cannot be used.
    """
    second = searcher.second() if RERANKED in rankings else None
    ids = searcher.snapshot.papers.ids()
    known = set(ids)
    missing = sum(cited not in known for query in queries for cited in query.cited_ids)
    contexts = sum(len(query.cited_ids) for query in queries)
    if missing == contexts:
        raise UserError(
            f"the index has none of the {contexts:,} cited papers, the first: {queries[0].cited_ids[0]}; "
            "evaluate with the corpus that the contexts belong to"
        )
    names = run_names(queries)
    if out:
        _write(out / "qrels.txt", _qrels(names, queries))
    drafts = _drafts(searcher.snapshot.papers, queries)
    parts = slices(queries, trained, {draft.paper_id for draft in drafts if draft.title})
    rows = []
    read: Logits = {}
    told: dict[str, Calibration] = {}
    for ranking in rankings:
        asked = _Asked(searcher, ids, ranking, inductive)
        asked.run(queries[:1], drafts[:1], {})  # loads what is still to be loaded, untimed
        began = time.monotonic()
        run = asked.run(queries, drafts, read, progress)
        seconds = round(time.monotonic() - began, 2)
        rows.append(_row(ranking, queries, run, parts, _cost(asked, queries, drafts, seconds)))
        if out:
            _write(out / f"run-{ranking}.txt", _trec(names, run, ranking))
        stage = second if ranking == RERANKED else None
        if stage or ranking == "best":
            measured = calibration(searcher, queries, stage, read, progress)
            told |= {ranking: measured} if measured else {}
    report = Report(
        rows=rows,
        queries=len(queries),
        contexts=contexts,
        missing=missing,
        papers=len(ids),
        encoder=searcher.snapshot.manifest.encoder,
        source=source,
        calibration=told,
        drawn_from=drawn_from,
    )
    if out:
        _write(out / "report.json", [json.dumps(report.as_dict(), indent=1)])
    return report


def _qrels(names: Sequence[str], queries: Sequence[Query]) -> Iterator[str]:
    for name, query in zip(names, queries, strict=True):
        for cited in query.cited_ids:
            yield f"{name} 0 {'_'.join(cited.split())} 1\n"  # ids of a corpus have no spaces


def _trec(names: Sequence[str], run: Sequence[list[str]], ranking: str) -> Iterator[str]:
    for name, found in zip(names, run, strict=True):
        for rank, paper_id in enumerate(found, 1):
            yield f"{name} Q0 {paper_id} {rank} {DEPTH + 1 - rank} {ranking}\n"


def _write(path: Path, lines: Iterable[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None


def rows_for(searcher: Searcher, queries: Sequence[Query]) -> list[str]:
    """Which of the STAGES say something of this index and these queries."""
    snapshot = searcher.snapshot
    rows = ["bm25", "dense", "hybrid"]
    if snapshot.evidence:
        rows.append("evidence")
    if searcher.ranker(snapshot):
        rows.append("best")
        if any(draft.title for draft in _drafts(snapshot.papers, queries)):
            rows.append(f"best{DRAFT}")
        if searcher.settings.reranker:
            rows.append(RERANKED)
    return rows


def _drafts(papers: PaperTable, queries: Sequence[Query]) -> list[Paper]:
    """The citing paper of each query: its record where the corpus has it, else its id alone."""
    rows = papers.rows_of([query.citing_id for query in queries])
    known = {paper.paper_id: paper for paper in papers.take(np.unique(rows[rows >= 0]).tolist())}
    return [known.get(query.citing_id, Paper(query.citing_id, "")) for query in queries]


@dataclass(frozen=True)
class _Asked:
    """How the queries of a row are asked; `ids` are those of the papers."""

    searcher: Searcher
    ids: Sequence[str]
    row: str
    inductive: bool

    def run(
        self,
        queries: Sequence[Query],
        drafts: Sequence[Paper],
        known: Logits,
        progress: Progress = lambda *_: None,
    ) -> list[list[str]]:
        """The ids found for each query, best first; a reranker's logits go to `known`."""
        found: list[list[str]] = []
        for start in range(0, len(queries), BATCH):
            progress(self.row, start, len(queries), " queries")
            found += self._batch(queries[start : start + BATCH], drafts[start : start + BATCH], known)
        progress(self.row, len(queries), len(queries), " queries")
        return found

    def _batch(self, queries: Sequence[Query], drafts: Sequence[Paper], known: Logits) -> list[list[str]]:
        found: list[list[str]] = [[]] * len(queries)
        years = {query.year for query in queries} if self.inductive else {None}
        for year in years:
            members = [n for n, query in enumerate(queries) if query.year == year or not self.inductive]
            some, own = [queries[n] for n in members], [drafts[n] for n in members]
            for n, ids in zip(members, self.ask(some, own, DEPTH, year, known), strict=True):
                found[n] = ids
        return found

    def ask(
        self,
        queries: Sequence[Query],
        drafts: Sequence[Paper],
        k: int,
        year: int | None = None,
        known: Logits | None = None,
    ) -> list[list[str]]:
        """The ids of the best k for each query, of papers until the year."""
        ranking = self.row.removesuffix(DRAFT)
        given = drafts if ranking != self.row else [Paper(draft.paper_id, "") for draft in drafts]
        keep = None if year is None else Filter(until=year)
        contexts = [query.context for query in queries]
        ranked = self.searcher.rank(contexts, k, ranking, self.searcher.snapshot, keep, given, known=known)
        return [[self.ids[row] for row in rows if row >= 0] for rows in ranked.rows.tolist()]


def _cost(asked: _Asked, queries: Sequence[Query], drafts: Sequence[Paper], seconds: float) -> dict[str, Any]:
    """What a row took: `seconds` for all, and the time of some queries that are asked one by one."""
    times = []
    for number in range(0, len(queries), -(-len(queries) // TIMED)):
        began = time.perf_counter()
        asked.ask([queries[number]], [drafts[number]], 10)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times, [50, 95]).round(1).tolist()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kB elsewhere
    memory = round(peak / (1e6 if sys.platform == "darwin" else 1e3))
    return {"seconds": seconds, "p50": p50, "p95": p95, "memory": memory}


def _row(
    name: str, queries: Sequence[Query], run: Sequence[list[str]], parts: Slices, cost: dict[str, Any]
) -> Row:
    by_query = per_query(queries, run)
    by_context, owners = per_context(queries, run)
    citing = np.array([query.citing_id or f"query {number}" for number, query in enumerate(queries)])
    means = {m: round(float(values.mean()), 4) for m, values in (by_query | by_context).items()}
    spread = intervals(by_query, citing) | intervals(by_context, citing[owners])
    sliced = {}
    for part, members in parts.items():
        some = {m: by_context[m][members] for m in ("hit@10", "MRR")}
        sliced[part] = {
            "contexts": int(members.sum()),
            **{m: round(float(values.mean()), 4) for m, values in some.items()},
            "interval": intervals({"hit@10": some["hit@10"]}, citing[owners][members])["hit@10"],
        }
    return Row(name=name, means=means, intervals=spread, slices=sliced, **cost)
