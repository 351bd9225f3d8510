"""The second reading of a ranking: the reranker's logits for its first rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from data.contexts import Context
from data.table import PaperTable
from model.encoder import Vectors
from model.reranker import Reranker

if TYPE_CHECKING:
    from indexer.vectors import Rows


def reranked(reranker: Reranker, contexts: Sequence[Context], rows: "Rows", papers: PaperTable) -> Vectors:
    """The logits of each context with its papers, of the shape of `rows` (contexts, k), float32.

    Rows of -1, which pad short answers, get -inf.
    """
    logits = np.full(rows.shape, -np.inf, np.float32)
    queries, places = np.nonzero(rows >= 0)
    found = papers.take(rows[queries, places].tolist())
    logits[queries, places] = reranker.score([contexts[query] for query in queries.tolist()], found)
    return logits
