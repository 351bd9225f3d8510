"""The second reading of a ranking: a reranker reads its first rows, and puts them in an order of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.contexts import Context
from data.errors import UserError
from data.table import PaperTable
from indexer.ranked import Ranked
from indexer.settings import Settings
from indexer.store import Manifest
from model.blend import Blend, load
from model.encoder import Vectors
from model.reranker import Reranker

if TYPE_CHECKING:
    from indexer.vectors import Rows

Logits = dict[tuple[Context, int], float]  # of a context and the row of a paper


def reranked(
    reranker: Reranker,
    contexts: Sequence[Context],
    rows: "Rows",
    papers: PaperTable,
    known: Logits | None = None,
) -> Vectors:
    """The logits of each context with its papers, of the shape of `rows` (contexts, k), float32.

    Rows of -1, which pad short answers, get -inf. What is `known` is not read again, and it gets the others.
    """
    known = {} if known is None else known
    queries, places = np.nonzero(rows >= 0)
    found = zip(queries.tolist(), rows[queries, places].tolist(), strict=True)
    pairs = [(contexts[query], row) for query, row in found]
    new = list(dict.fromkeys(pair for pair in pairs if pair not in known))
    read = reranker.score([context for context, _ in new], papers.take([row for _, row in new]))
    known.update(zip(new, read.tolist(), strict=True))
    logits = np.full(rows.shape, -np.inf, np.float32)
    logits[queries, places] = [known[pair] for pair in pairs]
    return logits


@dataclass(frozen=True)
class Second:
    """The second stage: a reranker, the blend that was fitted for it, and how many papers it reads."""

    reranker: Reranker
    blend: Blend
    depth: int

    def read(
        self, ranked: Ranked, contexts: Sequence[Context], papers: PaperTable, known: Logits | None = None
    ) -> Ranked:
        """A ranking with probabilities, in a new order of the first `depth` of each context.

        What stands below keeps its place, and at most the probability of the last that was read, so that
        the probabilities fall. For `known` see `reranked`.
        """
        logits = reranked(self.reranker, contexts, ranked.rows[:, : self.depth], papers, known)
        order = np.tile(np.arange(ranked.rows.shape[1]), (len(ranked.rows), 1))
        scores = ranked.scores.copy()
        for number, row in enumerate(logits):
            n = int((ranked.rows[number, : self.depth] >= 0).sum())
            told = self.blend.probabilities(ranked.scores[number, :n], row[:n])
            best = np.argsort(-told, kind="stable")
            order[number, :n], scores[number, :n] = best, told[best]
            if n:
                scores[number, n:] = np.minimum(scores[number, n:], scores[number, n - 1])
        moved = ranked.changed(lambda part: np.take_along_axis(part, order, axis=1))
        return replace(moved, scores=scores, probability=scores)


def second_stage(folder: Path, settings: Settings, encoder: str) -> Second:
    """That of a reranker's folder for an index by the encoder with this fingerprint. Raises UserError."""
    reranker = Reranker(str(folder), settings.device)
    return Second(reranker, load(folder, encoder, reranker.fingerprint), settings.rerank_depth)


def no_reranker() -> UserError:
    """What to say where a reranker is asked for and none was given."""
    return UserError("there is no reranker; give the folder of one with --reranker")


def no_ranker(manifest: Manifest) -> UserError:
    """What to say where there is no ranking for a reranker to read."""
    return UserError(
        f"a reranker reads after a ranker, and none fits the index's encoder {manifest.encoder} "
        f"({manifest.encoder_fingerprint}); fit one first with: indexer fit CONTEXTS --out FILE"
    )
