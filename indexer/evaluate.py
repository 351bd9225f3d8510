"""Recall of an index on citing contexts: measures by ir-measures, intervals by bootstrap.

Two views of the same run. Per query: contexts with the same citing paper and text are one query with
several relevant papers (R@k, RR, nDCG@10). Per context: each cited paper is its own row, found or not
(hit@k, MRR), as the published tables of local citation recommendation count.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    Raises UserError where the corpus has none of the cited papers, or `out` cannot be written.
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
    names = _names(queries)
    if out:
        _write(out / "qrels.txt", _qrels(names, queries))
    rows = []
    for ranking in rankings:
        _run(searcher, queries[:1], ranking, ids)  # loads what is still to be loaded, untimed
        began = time.monotonic()
        run = _run(searcher, queries, ranking, ids, progress)
        seconds = round(time.monotonic() - began, 2)
        rows.append(_row(ranking, queries, run, seconds))
        if out:
            _write(out / f"run-{ranking}.txt", _trec(names, run, ranking))
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
        _write(out / "report.json", [json.dumps(report.as_dict(), indent=1)])
    return report


def _names(queries: Sequence[Query]) -> list[str]:
    """What the TREC files call the queries: their own ids where these are distinct words."""
    names = [query.query_id for query in queries]
    plain = len(set(names)) == len(names) and all(len(name.split()) == 1 for name in names)
    return names if plain else [f"q{number}" for number in range(len(queries))]


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


def _run(
    searcher: Searcher,
    queries: Sequence[Query],
    ranking: str,
    ids: Sequence[str],
    progress: Progress = lambda *_: None,
) -> list[list[str]]:
    """The ids found for each query, best first."""
    run = []
    snapshot = searcher.snapshot
    for start in range(0, len(queries), BATCH):
        progress(ranking, start, len(queries), " queries")
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
    by_query, by_context = _intervals(per_query, cluster), _intervals(per_context, cluster[owners])
    means = {m: round(float(values.mean()), 4) for m, values in (per_query | per_context).items()}
    return Row(name, means, by_query | by_context, seconds)


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


def _intervals(values: dict[str, Floats], cluster: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """The 95% percentile-bootstrap interval of each measure's mean, resampling whole clusters.

    Contexts of one citing paper are alike, so the paper is what is drawn, not the context.
    """
    sums = np.stack([np.bincount(cluster, column) for column in values.values()], axis=1)
    sizes = np.bincount(cluster)
    count = len(sizes)
    random = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(count, size=count), minlength=count).astype(np.float64)
        means.append((drawn @ sums) / (drawn @ sizes))
    low, high = np.percentile(means, [2.5, 97.5], axis=0).round(4)
    return {m: (float(low[i]), float(high[i])) for i, m in enumerate(values)}


def table(report: Report) -> Iterator[str]:
    """The report as lines of text for a terminal."""
    yield (
        f"{report.contexts:,} contexts ({report.queries:,} queries) over {report.papers:,} papers, "
        f"encoder {report.encoder}"
    )
    if report.missing:
        one = report.missing == 1
        yield (
            f"{report.missing:,} cited {'paper is' if one else 'papers are'} not in the corpus and "
            f"{'counts' if one else 'count'} as not found"
        )
    for title, names in (
        ("per query", [*(f"R@{k}" for k in CUTOFFS), "RR", "nDCG@10"]),
        ("per context", [*(f"hit@{k}" for k in CUTOFFS), "MRR"]),
    ):
        yield ""
        yield f"{title:12}" + "".join(f"{row.name:<22}" for row in report.rows).rstrip()
        for name in names:
            cells = (f"{row.means[name]:.3f} [{_range(row.intervals[name])}]" for row in report.rows)
            yield f"  {name:10}" + "".join(f"{cell:<22}" for cell in cells).rstrip()
    yield ""
    yield f"  {'seconds':10}" + "".join(f"{row.seconds:<22.1f}" for row in report.rows).rstrip()
    yield "In brackets: 95% intervals, bootstrap over citing papers."


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f}, {interval[1]:.3f}"
