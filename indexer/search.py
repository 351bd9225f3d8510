"""The Searcher: contexts in, ranked papers out. Every door of the project calls it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.contexts import Context
from data.errors import UserError
from data.filter import Filter, Selection
from data.paper import Paper
from data.table import PaperTable
from indexer.milvus_address import NotPublished, parse
from indexer.settings import LOCAL, Settings
from indexer.store import MAP, METRIC, Generation, Store, must_fit, rebuild
from model.encoder import Encoder, Vectors
from model.text import TEXT_FORM, query_text

if TYPE_CHECKING:  # FAISS and bm25s are loaded by the searches that need them
    from indexer.atlas import Map
    from indexer.lexical import LexicalIndex
    from indexer.vectors import Rows, VectorSource

CANDIDATES = 300
SELECTIONS = 8  # of the latest filters: one is 9 bytes a paper at most
ATTEMPTS = 10  # to load a generation, while builds follow each other faster than it loads
PATIENCE = 60.0  # seconds between two looks for a newer generation where the engine has not got it
LEXICAL_WEIGHT = 0.1  # on dev hit@10 is .515 with 0, .523 with .06, .517 with .1, .487 with .2

T = TypeVar("T")


class UnknownPaper(UserError):
    """An id that the index does not hold."""


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

    rows: "Rows"
    scores: Vectors
    dense: Vectors | None = None
    bm25: Vectors | None = None


class Replaced(UserError):
    """A generation whose files newer builds removed before they were loaded."""


class Snapshot:
    """One generation, open: its parts are loaded once, when first needed, and never change.

    Raises UserError where a part is not what the manifest says, and Replaced.
    """

    def __init__(self, generation: Generation, settings: Settings) -> None:
        self.generation = generation
        self.path, self.manifest = generation.path, generation.manifest
        self._settings = settings
        self._lock = threading.Lock()
        self._vectors: VectorSource | None = None
        self._words: LexicalIndex | None = None
        self._map: Map | None = None
        with self._present():
            self.papers = PaperTable(self.path / "papers.arrow")
        self._agree("the program", "metric", METRIC)
        listed = self.manifest.files.get("papers.arrow", {})
        self._agree("papers.arrow", "corpus_hash", str(listed.get("sha256"))[:24])
        self._agree("papers.arrow", "papers", len(self.papers))
        self._select = lru_cache(SELECTIONS)(partial(Selection, self.papers))

    def select(self, keep: Filter | None) -> Selection | None:
        """The rows that a filter allows, found once for the latest filters; None where that is all."""
        return self._select(keep) if keep else None

    @property
    def vectors(self) -> "VectorSource":
        """The dense index, here or where the settings' engine has it."""
        with self._lock, self._present():
            self._vectors = self._vectors or self._open_vectors()
            return self._vectors

    def _open_vectors(self) -> "VectorSource":
        settings = self._settings
        if settings.engine == LOCAL:
            from indexer.vectors import VectorIndex

            opened = VectorIndex(self.path / "vectors.faiss", settings.device)
            self._agree("vectors.faiss", "papers", len(opened))
            self._agree("vectors.faiss", "dimension", opened.dimension)
            return opened
        from indexer.milvus import MilvusVectors

        return MilvusVectors(parse(settings.engine), self.manifest, self.papers, settings.index)

    @property
    def words(self) -> "LexicalIndex":
        """The BM25 index."""
        from indexer.lexical import LexicalIndex

        with self._lock, self._present():
            if self._words is None:
                opened = LexicalIndex(self.path / "words")
                self._agree("words", "papers", len(opened))
                self._words = opened
            return self._words

    @property
    def map(self) -> "Map | None":
        """The map of the papers, None where none was drawn."""
        if not self.manifest.mapped:
            return None
        from indexer.atlas import read

        with self._lock, self._present():
            if self._map is None:
                opened = read(self.path)
                self._agree(MAP, "papers", opened.papers)
                self._map = opened
            return self._map

    def load(self) -> None:
        """Load every part now: a loaded generation keeps answering when newer ones have replaced it."""
        _ = self.vectors, self.words, self.map

    @contextmanager
    def _present(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError):
            if self.path.exists():
                raise
            raise Replaced(f"{self.path} was replaced by newer builds while in use; try again") from None

    def _agree(self, part: str, name: str, found: object) -> None:
        """Refuse a part that is not what the manifest says of it."""
        said = getattr(self.manifest, name)
        if found != said:
            raise UserError(
                f"{self.path / 'manifest.json'} says {name} {said}, {part} has {found}; "
                f"{rebuild(self.path.parents[1], self.manifest)}"
            )


class Searcher:
    """Searches the newest generation of an index.

    The encoder is the one that the index was built with, loaded at the first dense search; another
    one may be given, and is refused if its fingerprint differs. Safe to share between threads.
    Every search takes up a newer generation first, unless `follow` is off: then its owner calls
    `reload`. Raises UserError where there is no usable index.
    """

    def __init__(self, settings: Settings, encoder: Encoder | None = None, follow: bool = True) -> None:
        self.settings = settings
        self._store = Store(settings.index)
        self._follow = follow
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._given = encoder is not None
        self._encoder = encoder
        self._unpublished: tuple[Path | None, float] = None, 0.0  # a generation, and when to look again
        self.snapshot = _lasting(lambda: Snapshot(self._store.open(), settings))

    def reload(self) -> None:
        """Take up a newer generation, if one was published; a search under way keeps its own.

        It is loaded whole before the first search sees it. One that the engine has not got yet is
        waited for.
        """
        if self._is_newer(self._store.current()):
            with self._reloading:
                if self._is_newer(self._store.current()):
                    self.snapshot = _lasting(self._loaded)

    def _is_newer(self, path: Path | None) -> bool:
        unpublished, again = self._unpublished
        return path != self.snapshot.path and (path != unpublished or time.monotonic() > again)

    def _loaded(self) -> Snapshot:
        """The newest generation, or the one at hand where the engine has not got the newest."""
        newest = Snapshot(self._store.open(), self.settings)
        try:
            newest.load()
        except NotPublished:
            self._unpublished = newest.path, time.monotonic() + PATIENCE
            if not self._follow:
                raise
            return self.snapshot
        return newest

    def search(
        self,
        contexts: Sequence[Context],
        k: int | None = None,
        ranking: str | None = None,
        keep: Filter | None = None,
    ) -> list[list[Hit]]:
        """The best k papers of each context, by the settings' k and ranking unless given.

        With `keep`, the best k of those that pass it, fewer only where fewer pass.

        Raises UserError for a k or a ranking that Settings would refuse.
        """
        asked = replace(
            self.settings,
            k=self.settings.k if k is None else k,
            ranking=self.settings.ranking if ranking is None else ranking,
        )

        def answers() -> list[list[Hit]]:
            snapshot = self._newest()
            ranked = self.rank(contexts, asked.k, asked.ranking, snapshot, keep)
            return [_hits(ranked, query, snapshot) for query in range(len(contexts))]

        return _lasting(answers)

    def paper(self, paper_id: str) -> Paper:
        """The record of an id. Raises UnknownPaper."""
        snapshot = self._newest()
        return snapshot.papers[self._row(paper_id, snapshot)]

    def similar(self, paper_id: str, k: int | None = None, keep: Filter | None = None) -> list[Hit]:
        """The best k papers (of those that pass `keep`) by the cosine with this paper's vector, without it.

        Raises UnknownPaper, and UserError for a k that Settings would refuse.
        """
        k = replace(self.settings, k=self.settings.k if k is None else k).k

        def nearest() -> list[Hit]:
            snapshot = self._newest()
            row = self._row(paper_id, snapshot)
            scores, rows = snapshot.vectors.search(
                snapshot.vectors.stored([row]), k + 1, snapshot.select(keep)
            )
            others = np.flatnonzero(rows[0] != row)[:k]
            scores, rows = scores[:, others], rows[:, others]
            return _hits(Ranked(rows, scores, dense=scores), 0, snapshot)

        return _lasting(nearest)

    def _newest(self) -> Snapshot:
        if self._follow:
            self.reload()
        return self.snapshot

    def _row(self, paper_id: str, snapshot: Snapshot) -> int:
        row = snapshot.papers.find(paper_id)
        if row is None:
            raise UnknownPaper(f"no paper with the id {paper_id!r} in {self.settings.index}")
        return row

    def rank(
        self,
        contexts: Sequence[Context],
        k: int,
        ranking: str,
        snapshot: Snapshot | None = None,
        keep: Filter | None = None,
    ) -> Ranked:
        """Rows and scores of the best k papers of each context; rows of -1 pad short answers.

        `ranking` is `dense`, `bm25` or `hybrid`: the cosine plus LEXICAL_WEIGHT times the BM25
        score's share of the context's best, over the candidates of both. The papers that `keep` does
        not let pass are no candidates.
        """
        snapshot = snapshot or self.snapshot
        allowed = snapshot.select(keep)
        if ranking == "dense":
            scores, rows = snapshot.vectors.search(self._encode(contexts, snapshot), k, allowed)
            return Ranked(rows, scores, dense=scores)
        lexical, lexical_rows = snapshot.words.search(
            [query_text(c) for c in contexts], k if ranking == "bm25" else max(k, CANDIDATES), allowed
        )
        lexical_rows = np.where(lexical > 0, lexical_rows, -1)
        shares = (lexical / np.maximum(lexical[:, :1], 1e-9)).astype(np.float32)
        if ranking == "bm25":
            return Ranked(lexical_rows, lexical, bm25=shares)
        queries = self._encode(contexts, snapshot)
        dense, dense_rows = snapshot.vectors.search(queries, max(k, CANDIDATES), allowed)
        return _fuse(snapshot, queries, (dense, dense_rows), (shares, lexical_rows), k)

    def _encode(self, contexts: Sequence[Context], snapshot: Snapshot) -> Vectors:
        encoder = self._encoder_of(snapshot)
        must_fit(snapshot.generation, self.settings.index, encoder.fingerprint, encoder.name, TEXT_FORM)
        return encoder.encode_contexts(contexts)

    def _encoder_of(self, snapshot: Snapshot) -> Encoder:
        """The encoder that was given, else the one that built this generation."""
        manifest = snapshot.manifest
        with self._lock:
            encoder = self._encoder
            if encoder is None or (not self._given and encoder.fingerprint != manifest.encoder_fingerprint):
                encoder = self._encoder = Encoder(manifest.encoder, self.settings.device)
            return encoder


def _lasting(work: Callable[[], T]) -> T:
    """What the work gives, done again where builds removed the generation that it had begun on."""
    for _ in range(ATTEMPTS - 1):
        with suppress(Replaced):
            return work()
    return work()


def _hits(ranked: Ranked, query: int, snapshot: Snapshot) -> list[Hit]:
    """The hits of one context of a ranking."""

    def part(scores: Vectors | None, place: int) -> float | None:
        return None if scores is None else float(scores[query, place])

    found = [int(row) for row in ranked.rows[query] if row >= 0]
    return [
        Hit(
            rank=place + 1,
            paper=paper,
            score=float(ranked.scores[query, place]),
            dense=part(ranked.dense, place),
            bm25=part(ranked.bm25, place),
        )
        for place, paper in enumerate(snapshot.papers.take(found))
    ]


def _fuse(
    snapshot: Snapshot,
    queries: Vectors,
    dense: "tuple[Vectors, Rows]",
    lexical: "tuple[Vectors, Rows]",
    k: int,
) -> Ranked:
    count, k = len(queries), min(k, dense[1].shape[1])
    rows = np.full((count, k), -1, np.int64)
    scores, cosines, shares = (np.zeros((count, k), np.float32) for _ in range(3))
    for query in range(count):
        found = dict(zip(dense[1][query].tolist(), dense[0][query].tolist(), strict=True))
        words = dict(zip(lexical[1][query].tolist(), lexical[0][query].tolist(), strict=True))
        found.pop(-1, None)
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
