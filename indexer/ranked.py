"""The rows and scores of contexts, best first: what a ranking gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.candidates import LEXICAL_WEIGHT, Pool
from model.encoder import Vectors
from model.ranker import Ranker

if TYPE_CHECKING:
    from indexer.vectors import Rows


@dataclass(frozen=True)
class Ranked:
    """The rows and scores of many contexts, each of shape (contexts, k), best first; see Hit."""

    rows: "Rows"
    scores: Vectors
    dense: Vectors | None = None
    bm25: Vectors | None = None
    profile: Vectors | None = None
    probability: Vectors | None = None

    def changed(self, change: Callable[[Any], Any]) -> "Ranked":
        """The same change made to each of the arrays."""
        parts: dict[str, Any] = {n: None if part is None else change(part) for n, part in vars(self).items()}
        return Ranked(**parts)

    def first(self, k: int) -> "Ranked":
        """The best k of each context."""
        return self.changed(lambda part: part[:, :k])


def ordered(found: Sequence[Pool], fitted: Ranker | None, k: int, words: float = LEXICAL_WEIGHT) -> Ranked:
    """The best k of each pool: by the ranker, else by the sum of the scores, see Pool.sum."""
    k = min(k, max((len(pool.rows) for pool in found), default=0))
    rows = np.full((len(found), k), -1, np.int64)
    scores, dense, bm25, near = (np.zeros((len(found), k), np.float32) for _ in range(4))
    for number, pool in enumerate(found):
        score = fitted.probabilities(pool.features()) if fitted else pool.sum(words)
        best = np.lexsort((pool.rows, -score))[:k]  # equal scores in the order of the corpus
        n = len(best)
        rows[number, :n], scores[number, :n] = pool.rows[best], score[best]
        dense[number, :n], bm25[number, :n] = pool.dense[best], pool.share[best]
        near[number, :n] = pool.profile[best]
    with_evidence = any(pool.evidence for pool in found)
    return Ranked(rows, scores, dense, bm25, near if with_evidence else None, scores if fitted else None)
