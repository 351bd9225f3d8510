"""The Searcher: contexts in, ranked papers out. Every door of the project calls it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data.contexts import Citation, Context
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from indexer.candidates import (
    FEATURES,
    LEXICAL_WEIGHT,
    NO_DRAFT,
    UNLEARNED_WEIGHT,
    Draft,
    Pool,
    Use,
    pools,
)
from indexer.milvus_address import NotPublished
from indexer.ranked import Ranked, ordered
from indexer.rerank import Logits, Second, no_ranker, no_reranker, second_stage
from indexer.settings import RERANKED, Settings
from indexer.snapshot import Replaced, Snapshot
from indexer.store import Store, must_fit
from model import ranker
from model.encoder import Encoder, Vectors
from model.ranker import Ranker
from model.text import TEXT_FORM, query_text

ATTEMPTS = 10  # to load a generation, while builds follow each other faster than it loads
PATIENCE = 60.0  # seconds between two looks for a newer generation where the engine has not got it
SENTENCES = 2  # by which a hit shows how others cite it

T = TypeVar("T")


class UnknownPaper(UserError):
    """An id that the index does not hold."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A paper found for a context, and why it stands where it does.

    `score` orders the hits of one context. `probability` is that of the paper being the cited one, `dense`
    the cosine of context and paper, `bm25` the BM25 score as a share of the context's best, `profile` the
    cosine of the context with those that cite the paper; each is None where the ranking did not use it.
    `cited` is how many citations of the paper are known; `cited_like` some of those whose text is.
    """

    rank: int
    paper: Paper
    score: float
    dense: float | None = None
    bm25: float | None = None
    profile: float | None = None
    probability: float | None = None
    cited: int = 0
    cited_like: tuple[Citation, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the scores and the paper's record with its address."""
        names = ("rank", "score", "dense", "bm25", "profile", "probability", "cited")
        facts: dict[str, Any] = {name: getattr(self, name) for name in names}
        facts["cited_like"] = [{"citing_id": c.citing_id, "text": c.text} for c in self.cited_like]
        return facts | asdict(self.paper) | {"url": self.paper.url}


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
        self._ranker: tuple[str, Ranker | None] = "", None  # the one for the encoder of this fingerprint
        self._second: Second | None = None
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
        draft: Paper | None = None,
    ) -> list[list[Hit]]:
        """The best k papers of each context, by the settings' k and ranking unless given.

        With `keep`, the best k of those that pass it, fewer only where fewer pass. `draft` is the paper that
        is being written, as far as it is known: its title and abstract help the ranking `best`; by its id,
        neither it nor what it is known to cite takes part.

        Raises UserError for a k or a ranking that Settings would refuse.
        """
        asked = replace(
            self.settings,
            k=self.settings.k if k is None else k,
            ranking=self.settings.ranking if ranking is None else ranking,
        )

        def answers() -> list[list[Hit]]:
            snapshot = self._newest()
            drafts = [draft] * len(contexts)
            ranked = self.rank(contexts, asked.k, asked.stage, snapshot, keep, drafts)
            without = draft.paper_id if draft else ""
            return [_hits(ranked, n, snapshot, c, without) for n, c in enumerate(contexts)]

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

    def nothing_fits(self, hits: Sequence[Hit]) -> bool:
        """Whether the best hit is so unlikely that the corpus hardly has the paper to cite.

        Only a ranking that gives probabilities can tell; False for others.
        """
        best = hits[0].probability if hits else None
        if best is None:
            return False
        fitted = self.second().blend if self.settings.reranker else self.ranker()
        return fitted is not None and best < fitted.threshold

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
        drafts: Sequence[Paper | None] | None = None,
        use: Use = "texts",
        known: Logits | None = None,
    ) -> Ranked:
        """Rows and scores of the best k papers of each context; rows of -1 pad short answers.

        `ranking` is `bm25`; `dense`; `hybrid`, the cosine with what shared words add; `evidence`, the same
        with what known citations add; `best`, by the learned ranker, and where none fits the index's encoder
        what `evidence` is; or `reranked`, whose first hits the reranker has read again. The papers that
        `keep` does not let pass are no candidates. `drafts` has what is known of each context's own paper,
        and `use` says how much of the known citations takes part. `known` has the logits of earlier readings
        of this snapshot, which are not read again, and gets the others.
        """
        snapshot = snapshot or self.snapshot
        allowed = snapshot.select(keep)
        if ranking == "dense":
            scores, rows = snapshot.vectors.search(self.encode(contexts, snapshot), k, allowed)
            return Ranked(rows, scores, dense=scores)
        if ranking == "bm25":
            scores, rows = snapshot.words.search([query_text(c) for c in contexts], k, allowed)
            shares = (scores / np.maximum(scores[:, :1], 1e-9)).astype(np.float32)
            return Ranked(np.where(scores > 0, rows, -1), scores, bm25=shares)
        second = self.second(snapshot) if ranking == RERANKED else None
        learned = self.ranker(snapshot)
        fitted = learned if ranking in ("best", RERANKED) else None
        use = "nothing" if ranking == "hybrid" else use
        found = self.pools(contexts, k, snapshot, keep, drafts, use, learned=fitted is not None)
        depth = max(k, second.depth) if second else k
        words = LEXICAL_WEIGHT if learned else UNLEARNED_WEIGHT
        ranked = ordered(list(found), fitted, depth, words)
        return second.read(ranked, contexts, snapshot.papers, known).first(k) if second else ranked

    def pools(
        self,
        contexts: Sequence[Context],
        k: int,
        snapshot: Snapshot,
        keep: Filter | None = None,
        drafts: Sequence[Paper | None] | None = None,
        use: Use = "texts",
        learned: bool = True,
        queries: Vectors | None = None,
    ) -> Iterator[Pool]:
        """The candidates of each context with what is known of them: see indexer.candidates.

        `queries` are the contexts' vectors where they were encoded before; `learned` says that a ranker will
        ask for the features, some of which cost time.
        """
        read: dict[Paper | None, Draft] = {None: NO_DRAFT}
        for draft in drafts or ():
            if draft and draft not in read:
                read[draft] = self._read(draft, snapshot, learned)
        own = [read[draft] for draft in drafts] if drafts else [NO_DRAFT] * len(contexts)
        if queries is None:
            queries = self.encode(contexts, snapshot)
        return pools(snapshot, contexts, queries, k, snapshot.select(keep), own, use, learned)

    def _read(self, draft: Paper, snapshot: Snapshot, with_text: bool) -> Draft:
        vector = None
        if with_text and draft.title:
            vector = self._encoder_of(snapshot).encode_papers([draft])[0]
        row = snapshot.papers.find(draft.paper_id) if draft.paper_id else None
        return Draft(vector, draft.paper_id, -1 if row is None else row)

    def ranker(self, snapshot: Snapshot | None = None) -> Ranker | None:
        """The learned ranker for the index's encoder: the settings' own, or the one that ships, if it fits.

        Raises UserError where the settings' own was fitted with another encoder.
        """
        manifest = (snapshot or self.snapshot).manifest
        fingerprint = manifest.encoder_fingerprint
        with self._lock:
            if self._ranker[0] != fingerprint:
                found = ranker.load(self.settings.ranker, FEATURES)
                if self.settings.ranker and found.encoder != fingerprint:
                    raise UserError(
                        f"{self.settings.ranker} was fitted with the encoder {found.encoder}, the index was "
                        f"built with {fingerprint} ({manifest.encoder}); fit one with: indexer fit"
                    )
                self._ranker = fingerprint, found if found.encoder == fingerprint else None
            return self._ranker[1]

    def second(self, snapshot: Snapshot | None = None) -> Second:
        """The second stage for the index's encoder: the settings' reranker, with what was fitted for it.

        Raises UserError where they have none, it cannot be used, or it has no ranker to read after.
        """
        if self.settings.reranker is None:
            raise no_reranker()
        manifest = (snapshot or self.snapshot).manifest
        fingerprint = manifest.encoder_fingerprint
        if self.ranker(snapshot) is None:
            raise no_ranker(manifest)
        with self._lock:
            if self._second is None or self._second.blend.encoder != fingerprint:
                self._second = second_stage(self.settings.reranker, self.settings, fingerprint)
            return self._second

    def encode(self, contexts: Sequence[Context], snapshot: Snapshot) -> Vectors:
        """The contexts' vectors. Raises UserError where the encoder is not the index's."""
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


def _hits(
    ranked: Ranked, query: int, snapshot: Snapshot, context: Context | None = None, without: str = ""
) -> list[Hit]:
    """The hits of one context of a ranking; what the paper `without` is known to cite is left aside."""

    def part(scores: Vectors | None, place: int) -> float | None:
        return None if scores is None else float(scores[query, place])

    found = [int(row) for row in ranked.rows[query] if row >= 0]
    evidence = snapshot.evidence if context and ranked.profile is not None else None
    return [
        Hit(
            rank=place + 1,
            paper=paper,
            score=float(ranked.scores[query, place]),
            dense=part(ranked.dense, place),
            bm25=part(ranked.bm25, place),
            profile=part(ranked.profile, place),
            probability=part(ranked.probability, place),
            cited=evidence.cited(row, without) if evidence else 0,
            cited_like=evidence.like(row, context, SENTENCES, without) if evidence and context else (),
        )
        for place, (row, paper) in enumerate(zip(found, snapshot.papers.take(found), strict=True))
    ]
