"""Whether probabilities mean what they say, and whether they know when nothing fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Context, Query
from data.paper import Paper
from indexer.candidates import Pool
from indexer.measures import auroc
from indexer.ranked import Ranked, ordered
from indexer.rerank import Logits, Second
from indexer.search import Searcher
from indexer.shards import Progress
from model.ranker import SHOWN

BATCH = 64
BINS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of a stage hold, over contexts.

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


def calibration(
    searcher: Searcher,
    queries: Sequence[Query],
    second: Second | None,
    known: Logits,
    progress: Progress,
) -> Calibration | None:
    """Measure the ranker, and after it the second stage if one is given; None without a ranker.

    On queries of which the corpus has a cited paper. For `known` see Searcher.rank.
    """
    snapshot = searcher.snapshot
    ranker = searcher.ranker(snapshot)
    if ranker is None:
        return None
    gold = [snapshot.papers.rows_of(query.cited_ids) for query in queries]
    asked = [n for n, rows in enumerate(gold) if (rows >= 0).any()]
    probabilities: list[Floats] = []
    cited: list[NDArray[np.bool_]] = []
    best_without: list[float] = []
    depth = max(SHOWN, second.depth) if second else SHOWN
    for start in range(0, len(asked), BATCH):
        progress("calibration", start, len(asked), " queries")
        members = asked[start : start + BATCH]
        contexts = [queries[n].context for n in members]
        drafts = [Paper(queries[n].citing_id, "") for n in members]

        def told(found: Sequence[Pool], contexts: Sequence[Context] = contexts) -> Ranked:
            ranked = ordered(found, ranker, depth)
            return second.read(ranked, contexts, snapshot.papers, known) if second else ranked

        found = list(searcher.pools(contexts, 0, snapshot, drafts=drafts))
        every = told(found).first(SHOWN)
        rest = told([p.only(~np.isin(p.rows, gold[n])) for n, p in zip(members, found, strict=True)])
        best_without += rest.scores.max(axis=1, initial=0.0).tolist()
        for n, rows, scores in zip(members, every.rows, every.scores, strict=True):
            probabilities.append(scores[rows >= 0].astype(np.float64))
            cited.append(np.isin(rows[rows >= 0], gold[n]))
    progress("calibration", len(asked), len(asked), " queries")
    best = np.array([p[0] if len(p) else 0.0 for p in probabilities])
    first = np.array([c[0] if len(c) else False for c in cited])
    without = np.array(best_without)
    shown, hit = np.concatenate(probabilities), np.concatenate(cited)
    threshold = second.blend.threshold if second else ranker.threshold
    low = best < threshold
    lacking = np.array([not c.any() for c in cited])
    return Calibration(
        contexts=len(asked),
        top=round(expected_error(best, first), 4),
        shown=round(expected_error(shown, hit), 4),
        bins=bins(shown, hit),
        auroc=round(auroc(best, without), 4),
        threshold=round(threshold, 4),
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
