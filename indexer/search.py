"""The Searcher: contexts in, ranked papers out. Every door of the project calls it."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Context
from data.errors import UserError
from data.paper import Paper
from data.table import PaperTable
from indexer.lexical import LexicalIndex
from indexer.settings import Settings
from indexer.store import Generation, Store
from indexer.vectors import Rows, VectorIndex
from model.encoder import Encoder, Vectors
from model.text import TEXT_FORM, query_text

CANDIDATES = 300
LEXICAL_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Hit:
    """A paper found for a context, and why it stands where it does.

    `score` orders the hits of one context. `dense` is the cosine of context and paper, `bm25` the
    BM25 score as a share of the context's best; either is None where the ranking did not use it.
    """

    rank: int
    paper: Paper
    score: float
    dense: float | None
    bm25: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the scores and the paper's record with its address."""
        scores = {name: getattr(self, name) for name in ("rank", "score", "dense", "bm25")}
        return scores | asdict(self.paper) | {"url": self.paper.url}


@dataclass(frozen=True)
class Ranked:
    """The rows and scores of many contexts, each of shape (contexts, k), best first."""

    rows: Rows
    scores: Vectors
    dense: Vectors | None = None
    bm25: Vectors | None = None


class Snapshot:
    """One generation, open: its parts are loaded when first needed and never change."""

    def __init__(self, generation: Generation, device: str) -> None:
        self.path, self.manifest = generation.path, generation.manifest
        self._device = device
        self.papers = PaperTable(self.path / "papers.arrow")

    @cached_property
    def vectors(self) -> VectorIndex:
        """The dense index."""
        return VectorIndex(self.path / "vectors.faiss", self._device)

    @cached_property
    def words(self) -> LexicalIndex:
        """The BM25 index."""
        return LexicalIndex(self.path / "words")


class Searcher:
    """Searches the newest generation of an index.

    The encoder is the one that the index was built with, loaded at the first dense search; another
    one may be given, and is refused if its fingerprint differs. Safe to share between threads.
    Raises UserError where there is no usable index.
    """

    def __init__(self, settings: Settings, encoder: Encoder | None = None) -> None:
        self.settings = settings
        self._store = Store(settings.index)
        self._lock = threading.Lock()
        self._encoder = encoder
        self.snapshot = Snapshot(self._store.open(), settings.device)

    def reload(self) -> None:
        """Take up a newer generation, if one was published; a search under way keeps its own."""
        if self._store.current() != self.snapshot.path:
            with self._lock:
                if self._store.current() != self.snapshot.path:
                    self.snapshot = Snapshot(self._store.open(), self.settings.device)

    def search(
        self, contexts: Sequence[Context], k: int | None = None, ranking: str | None = None
    ) -> list[list[Hit]]:
        """The best k papers of each context, by the settings' k and ranking unless given."""
        self.reload()
        snapshot = self.snapshot
        ranked = self.rank(contexts, k or self.settings.k, ranking or self.settings.ranking, snapshot)
        answers = []
        for query, rows in enumerate(ranked.rows):
            found = [int(row) for row in rows if row >= 0]
            answers.append(
                [
                    Hit(
                        rank=place + 1,
                        paper=paper,
                        score=float(ranked.scores[query, place]),
                        dense=None if ranked.dense is None else float(ranked.dense[query, place]),
                        bm25=None if ranked.bm25 is None else float(ranked.bm25[query, place]),
                    )
                    for place, paper in enumerate(snapshot.papers.take(found))
                ]
            )
        return answers

    def rank(
        self, contexts: Sequence[Context], k: int, ranking: str, snapshot: Snapshot | None = None
    ) -> Ranked:
        """Rows and scores of the best k papers of each context; rows of -1 pad short answers.

        `ranking` is `dense`, `bm25` or `hybrid`: the cosine plus LEXICAL_WEIGHT times the BM25
        score's share of the context's best, over the candidates of both.
        """
        snapshot = snapshot or self.snapshot
        if ranking == "dense":
            scores, rows = snapshot.vectors.search(self._encode(contexts, snapshot), k)
            return Ranked(rows, scores, dense=scores)
        lexical, lexical_rows = snapshot.words.search(
            [query_text(c) for c in contexts], k if ranking == "bm25" else max(k, CANDIDATES)
        )
        lexical_rows = np.where(lexical > 0, lexical_rows, -1)
        shares = (lexical / np.maximum(lexical[:, :1], 1e-9)).astype(np.float32)
        if ranking == "bm25":
            return Ranked(lexical_rows, lexical, bm25=shares)
        queries = self._encode(contexts, snapshot)
        dense, dense_rows = snapshot.vectors.search(queries, max(k, CANDIDATES))
        return _fuse(snapshot, queries, (dense, dense_rows), (shares, lexical_rows), k)

    def _encode(self, contexts: Sequence[Context], snapshot: Snapshot) -> Vectors:
        manifest = snapshot.manifest
        if self._encoder is None:
            with self._lock:
                self._encoder = self._encoder or Encoder(manifest.encoder, self.settings.device)
        for what, ours, theirs in (
            ("encoder", self._encoder.fingerprint, manifest.encoder_fingerprint),
            ("text form", TEXT_FORM, manifest.text_form),
        ):
            if ours != theirs:
                raise UserError(
                    f"{snapshot.path} was built with {what} {theirs} ({manifest.encoder}), this is "
                    f"{ours} ({self._encoder.name}); build the index again with: indexer build"
                )
        return self._encoder.encode_contexts(contexts)


def _fuse(
    snapshot: Snapshot,
    queries: Vectors,
    dense: tuple[Vectors, Rows],
    lexical: tuple[Vectors, Rows],
    k: int,
) -> Ranked:
    count, k = len(queries), min(k, len(snapshot.papers))
    rows = np.full((count, k), -1, np.int64)
    scores, cosines, shares = (np.zeros((count, k), np.float32) for _ in range(3))
    for query in range(count):
        found = dict(zip(dense[1][query].tolist(), dense[0][query].tolist(), strict=True))
        words = dict(zip(lexical[1][query].tolist(), lexical[0][query].tolist(), strict=True))
        words.pop(-1, None)
        missing = [row for row in words if row not in found]
        found |= zip(missing, snapshot.vectors.score(queries[query], missing).tolist(), strict=True)
        pool: NDArray[np.int64] = np.fromiter(found, np.int64, len(found))
        cosine = np.fromiter(found.values(), np.float32, len(found))
        share = np.fromiter((words.get(row, 0.0) for row in found), np.float32, len(found))
        total = cosine + LEXICAL_WEIGHT * share
        best = np.lexsort((pool, -total))[:k]  # equal scores in the order of the corpus
        n = len(best)
        rows[query, :n], scores[query, :n] = pool[best], total[best]
        cosines[query, :n], shares[query, :n] = cosine[best], share[best]
    return Ranked(rows, scores, cosines, shares)
