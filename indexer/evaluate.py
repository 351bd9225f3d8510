"""Recall of an index on citing contexts: measures by ir-measures, intervals by bootstrap.

Two views of the same run. Per query: contexts with the same citing paper and text are one query with
several relevant papers (R@k, RR, nDCG@10). Per context: each cited paper is its own row, found or not
(hit@k, MRR), as the published tables of local citation recommendation count.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Query
from data.errors import UserError
from indexer.search import Ranked, Searcher

CUTOFFS = (1, 5, 10, 50, 300)
DEPTH = max(CUTOFFS)
RESAMPLES = 1000
BATCH = 64

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Row:
    """One ranking's line of the report: the means, their 95% intervals, and the seconds it took."""

    name: str
    means: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            "name": self.name,
            **self.means,
            "intervals": self.intervals,
            "seconds": self.seconds,
        }


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

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and the report file."""
        return vars(self) | {"rows": [row.as_dict() for row in self.rows]}


def evaluate(
    searcher: Searcher,
    queries: Sequence[Query],
    rankings: Sequence[str],
    out: Path | None = None,
    source: str = "",
    progress: Progress = lambda *_: None,
) -> Report:
    """Search every query with each ranking over the whole corpus and score the runs.

    A cited paper that the corpus lacks counts as not found; how many there are is reported. With
    `out`, the folder gets `qrels.txt`, `run-<ranking>.txt` (TREC formats) and `report.json`.

    Raises UserError where the corpus has none of the cited papers.
    """
    ids = searcher.snapshot.papers.ids()
    known = set(ids)
    missing = sum(cited not in known for query in queries for cited in query.cited_ids)
    contexts = sum(len(query.cited_ids) for query in queries)
    if missing == contexts:
        raise UserError(
            f"the index has none of the {contexts:,} cited papers, the first: {queries[0].cited_ids[0]}; "
            "evaluate with the corpus that the contexts belong to"
        )
    named = [(f"{number}", query) for number, query in enumerate(queries)]
    rows = []
    for ranking in rankings:
        began = time.monotonic()
        run = _run(searcher, queries, ranking, ids, progress)
        seconds = round(time.monotonic() - began, 2)
        rows.append(_row(ranking, queries, run, seconds))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            with (out / f"run-{ranking}.txt").open("w", encoding="utf-8") as file:
                for (name, _), found in zip(named, run, strict=True):
                    for rank, paper_id in enumerate(found, 1):
                        file.write(f"{name} Q0 {paper_id} {rank} {DEPTH + 1 - rank} {ranking}\n")
    report = Report(
        rows=rows,
        queries=len(queries),
        contexts=contexts,
        missing=missing,
        papers=len(ids),
        encoder=searcher.snapshot.manifest.encoder,
        source=source,
    )
    if out:
        with (out / "qrels.txt").open("w", encoding="utf-8") as file:
            for name, query in named:
                file.writelines(f"{name} 0 {cited} 1\n" for cited in query.cited_ids)
        (out / "report.json").write_text(json.dumps(report.as_dict(), indent=1), encoding="utf-8")
    return report


def _run(
    searcher: Searcher,
    queries: Sequence[Query],
    ranking: str,
    ids: Sequence[str],
    progress: Progress,
) -> list[list[str]]:
    """The ids found for each query, best first."""
    run = []
    snapshot = searcher.snapshot
    for start in range(0, len(queries), BATCH):
        contexts = [query.context for query in queries[start : start + BATCH]]
        ranked: Ranked = searcher.rank(contexts, DEPTH, ranking, snapshot)
        run += [[ids[row] for row in found if row >= 0] for found in ranked.rows.tolist()]
        progress(ranking, len(run), len(queries), " queries")
    return run


def _row(name: str, queries: Sequence[Query], run: Sequence[list[str]], seconds: float) -> Row:
    per_query = _per_query(queries, run)
    per_context, owners = _per_context(queries, run)
    groups = [query.citing_id or f"query {number}" for number, query in enumerate(queries)]
    cluster = np.unique(groups, return_inverse=True)[1]
    means, intervals = {}, {}
    for measure, values in per_query.items():
        means[measure], intervals[measure] = _mean(values, cluster)
    for measure, values in per_context.items():
        means[measure], intervals[measure] = _mean(values, cluster[owners])
    return Row(name, means, intervals, seconds)


def _per_query(queries: Sequence[Query], run: Sequence[list[str]]) -> dict[str, Floats]:
    import ir_measures
    from ir_measures import RR, R, nDCG

    qrels = [
        ir_measures.Qrel(str(number), cited, 1)
        for number, query in enumerate(queries)
        for cited in query.cited_ids
    ]
    # Scores that strictly fall with the rank: tools break ties differently, so there are none.
    scored = [
        ir_measures.ScoredDoc(str(number), paper_id, float(DEPTH - rank))
        for number, found in enumerate(run)
        for rank, paper_id in enumerate(found)
    ]
    measures = [*(R @ k for k in CUTOFFS), RR, nDCG @ 10]
    values = {str(m): np.zeros(len(queries)) for m in measures}  # 0 for a query that found nothing
    for metric in ir_measures.iter_calc(measures, qrels, scored):
        values[str(metric.measure)][int(metric.query_id)] = metric.value
    return values


def _per_context(
    queries: Sequence[Query], run: Sequence[list[str]]
) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """hit@k and reciprocal rank of each (query, cited paper) pair, and the query of each pair.

    Other papers that the same query cites and that stand higher count against it, as in the
    published single-gold tables.
    """
    ranks, owners = [], []
    for number, (query, found) in enumerate(zip(queries, run, strict=True)):
        place = {paper_id: rank for rank, paper_id in enumerate(found, 1)}
        for cited in query.cited_ids:
            ranks.append(place.get(cited, math.inf))
            owners.append(number)
    rank = np.array(ranks)
    values = {f"hit@{k}": (rank <= k).astype(np.float64) for k in CUTOFFS}
    return values | {"MRR": 1 / rank}, np.array(owners)


def _mean(values: Floats, cluster: NDArray[np.int64]) -> tuple[float, tuple[float, float]]:
    """The mean and its 95% percentile-bootstrap interval, resampling whole clusters.

    Contexts of one citing paper are alike, so the paper is what is drawn, not the context.
    """
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    draws = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    means = (draws @ sums) / np.maximum(draws @ sizes, 1)
    low, high = np.percentile(means, [2.5, 97.5])
    return round(float(values.mean()), 4), (round(float(low), 4), round(float(high), 4))


def table(report: Report) -> Iterator[str]:
    """The report as lines of text for a terminal."""
    yield (
        f"{report.contexts:,} contexts ({report.queries:,} queries) over {report.papers:,} papers, "
        f"encoder {report.encoder}"
    )
    if report.missing:
        yield f"{report.missing:,} cited papers are not in the corpus and count as not found"
    for title, names in (
        ("per query", [*(f"R@{k}" for k in CUTOFFS), "RR", "nDCG@10"]),
        ("per context", [*(f"hit@{k}" for k in CUTOFFS), "MRR"]),
    ):
        yield ""
        yield f"{title:12}" + "".join(f"{name:>18}" for name in names)
        for row in report.rows:
            cells = (
                f"{row.means[n]:.3f} [{row.intervals[n][0]:.3f},{row.intervals[n][1]:.3f}]" for n in names
            )
            yield f"{row.name:12}" + "".join(f"{cell:>18}" for cell in cells)
    yield ""
    yield "95% intervals, bootstrap over citing papers; " + ", ".join(
        f"{row.name} {row.seconds:.1f} s" for row in report.rows
    )
