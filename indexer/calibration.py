"""Whether the ranker's probabilities mean what they say, and whether it knows when nothing fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Query
from data.paper import Paper
from indexer.measures import auroc
from indexer.search import Searcher
from indexer.shards import Progress
from model.ranker import SHOWN

BATCH = 64
BINS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities hold, over contexts.

    `top` and `shown` are the expected calibration errors of the first hit and of the first SHOWN (Guo et
    al., 2017: BINS bins of equal width, weighted by what is in them). `bins` are those of the shown hits:
    how many, the mean probability, the share that was cited. Of `said` contexts it was said that nothing
    fits, and the share `right` of them indeed has no cited paper among the shown. `auroc` is how well the
    best probability tells the lists from those of the same contexts with the cited papers taken out.
    """

    contexts: int
    top: float
    shown: float
    bins: list[tuple[int, float, float]]
    auroc: float
    threshold: float
    said: int
    right: float

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return vars(self) | {}


def calibration(searcher: Searcher, queries: Sequence[Query], progress: Progress) -> Calibration | None:
    """Measure the ranker on queries, those aside of which the corpus has no cited paper; None without one."""
    snapshot = searcher.snapshot
    ranker = searcher.ranker(snapshot)
    if ranker is None:
        return None
    gold = [snapshot.papers.rows_of(query.cited_ids) for query in queries]
    asked = [n for n, rows in enumerate(gold) if (rows >= 0).any()]
    probabilities: list[Floats] = []
    cited: list[NDArray[np.bool_]] = []
    best_without: list[float] = []
    for start in range(0, len(asked), BATCH):
        progress("calibration", start, len(asked), " queries")
        members = asked[start : start + BATCH]
        contexts = [queries[n].context for n in members]
        drafts = [Paper(queries[n].citing_id, "") for n in members]
        for n, pool in zip(members, searcher.pools(contexts, 0, snapshot, drafts=drafts), strict=True):
            right = np.isin(pool.rows, gold[n])
            found = ranker.probabilities(pool.features())
            order = np.argsort(-found, kind="stable")[:SHOWN]
            probabilities.append(found[order].astype(np.float64))
            cited.append(right[order])
            rest = ranker.probabilities(pool.only(~right).features())
            best_without.append(float(rest.max(initial=0.0)))
    progress("calibration", len(asked), len(asked), " queries")
    best = np.array([p[0] if len(p) else 0.0 for p in probabilities])
    first = np.array([c[0] if len(c) else False for c in cited])
    without = np.array(best_without)
    every, hit = np.concatenate(probabilities), np.concatenate(cited)
    low = best < ranker.threshold
    lacking = np.array([not c.any() for c in cited])
    return Calibration(
        contexts=len(asked),
        top=round(expected_error(best, first), 4),
        shown=round(expected_error(every, hit), 4),
        bins=bins(every, hit),
        auroc=round(auroc(best, without), 4),
        threshold=round(ranker.threshold, 4),
        said=int(low.sum()),
        right=round(float(lacking[low].mean()), 4) if low.any() else 0.0,
    )


def bins(probabilities: Floats, right: NDArray[np.bool_]) -> list[tuple[int, float, float]]:
    """Of each bin: how many, their mean probability, the share that is right."""
    number = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    found = []
    for bin_number in range(BINS):
        here = number == bin_number
        count = int(here.sum())
        told, is_right = (probabilities[here].mean(), right[here].mean()) if count else (0.0, 0.0)
        found.append((count, round(float(told), 4), round(float(is_right), 4)))
    return found


def expected_error(probabilities: Floats, right: NDArray[np.bool_]) -> float:
    """The mean distance of probability and share over the bins, weighted by what is in them."""
    parts = bins(probabilities, right)
    return sum(count * abs(told - is_right) for count, told, is_right in parts) / max(len(right), 1)
