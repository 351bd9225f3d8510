"""The second stage fitted on real citations: how much a reranker's logits count beside the ranker."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Query
from data.paper import Paper
from indexer.fit import threshold
from indexer.rerank import no_ranker, no_reranker, reranked
from indexer.search import Searcher
from indexer.shards import Progress
from model import blend
from model.blend import Blend
from model.ranker import SHOWN, Floats
from model.reranker import Reranker

BATCH = 16  # contexts, each with as many papers as the reranker reads


@dataclass(frozen=True)
class FittedSecond:
    """A blend, how many lists it was fitted on, and the share of these with a cited paper on top, as the
    ranker had ordered them (`before`) and as the reranker does (`after`)."""

    blend: Blend
    lists: int
    before: float
    after: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return vars(self) | {"blend": vars(self.blend)}


def fit_second(searcher: Searcher, queries: Sequence[Query], progress: Progress) -> FittedSecond:
    """Fit the settings' reranker to what the ranking `best` finds for queries.

    On citations that encoder, ranker and reranker should not know: each would be trusted too much. What the
    index knows of citations by the same citing paper is left out for each query.

    Raises UserError without a reranker or a ranker, and where too few of the cited papers are found.
    """
    settings, snapshot = searcher.settings, searcher.snapshot
    manifest = snapshot.manifest
    if settings.reranker is None:
        raise no_reranker()
    if searcher.ranker() is None:
        raise no_ranker(manifest)
    reranker = Reranker(str(settings.reranker), settings.device)
    lists: list[tuple[Floats, Floats, NDArray[np.bool_]]] = []
    for start in range(0, len(queries), BATCH):
        progress("reading", start, len(queries), " contexts")
        batch = queries[start : start + BATCH]
        contexts = [query.context for query in batch]
        drafts = [Paper(query.citing_id, "") for query in batch]
        ranked = searcher.rank(contexts, settings.rerank_depth, "best", snapshot, drafts=drafts)
        logits = reranked(reranker, contexts, ranked.rows, snapshot.papers)
        for query, rows, scores, read in zip(batch, ranked.rows, ranked.scores, logits, strict=True):
            n = int((rows >= 0).sum())
            right = np.isin(rows[:n], snapshot.papers.rows_of(query.cited_ids))
            lists.append((scores[:n], read[:n], right))
    progress("reading", len(queries), len(queries), " contexts")
    fitted, told = blend.fit(lists, manifest.encoder_fingerprint, reranker.fingerprint)
    orders = [np.argsort(-p, kind="stable")[:SHOWN] for p in told]
    cited = [right[order] for (*_, right), order in zip(lists, orders, strict=True)]
    best = np.array([float(p.max(initial=0.0)) for p in told])
    lacking = np.array([not right.any() for right in cited])
    return FittedSecond(
        blend=replace(fitted, threshold=threshold(best, lacking)),
        lists=len(lists),
        before=_on_top([right for *_, right in lists]),
        after=_on_top(cited),
    )


def _on_top(lists: Sequence[NDArray[np.bool_]]) -> float:
    return round(sum(bool(right[:1].any()) for right in lists) / len(lists), 4)
