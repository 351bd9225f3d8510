"""The measures of a run: per query by ir-measures, per context by hand, intervals by bootstrap.

Two views of the same run. Per query: contexts with the same citing paper and text are one query with
several relevant papers (R@k, RR, nDCG@10). Per context: each cited paper is its own row, found or not
(hit@k, MRR), as the published tables of local citation recommendation count.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Query

CUTOFFS = (1, 5, 10, 50, 300)
DEPTH = max(CUTOFFS)
RESAMPLES = 1000
PER_QUERY = (*(f"R@{k}" for k in CUTOFFS), "RR", "nDCG@10")
PER_CONTEXT = (*(f"hit@{k}" for k in CUTOFFS), "MRR")

Floats = NDArray[np.float64]


def per_query(queries: Sequence[Query], run: Sequence[list[str]]) -> dict[str, Floats]:
    """The measures of PER_QUERY for every query; `run` has the ids found for each, best first."""
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


def per_context(
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


def auroc(better: NDArray[Any], worse: NDArray[Any]) -> float:
    """The share of pairs in which the better one has the higher value, equal ones counting half.

    NaN where one of the two is empty.
    """
    from sklearn.metrics import roc_auc_score

    if not len(better) or not len(worse):
        return math.nan
    labels = np.repeat([1, 0], [len(better), len(worse)])
    return float(roc_auc_score(labels, np.concatenate([better, worse])))


def intervals(values: dict[str, Floats], labels: NDArray[Any]) -> dict[str, tuple[float, float]]:
    """The 95% percentile-bootstrap interval of each measure's mean, resampling whole clusters.

    `labels` says which cluster each value is of: contexts of one citing paper are alike, so the paper is
    what is drawn, not the context.
    """
    cluster = np.unique(labels, return_inverse=True)[1]
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
