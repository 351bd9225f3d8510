"""One generation of an index, open: what a search has before it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from data.errors import UserError
from data.filter import Filter, Selection
from data.table import PaperTable
from indexer.milvus_address import parse
from indexer.settings import LOCAL, Settings
from indexer.store import MAP, METRIC, Generation, rebuild

if TYPE_CHECKING:  # FAISS and bm25s are loaded by the searches that need them
    from indexer.atlas import Map
    from indexer.authors import Authors
    from indexer.evidence import Evidence
    from indexer.lexical import LexicalIndex
    from indexer.vectors import VectorSource

SELECTIONS = 8  # of the latest filters: one is 9 bytes a paper at most
EVIDENCE = "evidence"  # the folder of the known citations in a generation


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
        self._evidence: Evidence | None = None
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
            from indexer import gpu, kinds

            opened = kinds.opened(self.path, self.manifest.vectors, gpu.card_of(settings.device))
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
    def evidence(self) -> "Evidence | None":
        """The known citations, if the index has any."""
        if f"{EVIDENCE}/papers.arrow" not in self.manifest.files:
            return None
        from indexer.evidence import Evidence

        with self._lock, self._present():
            self._evidence = self._evidence or Evidence(self.path / EVIDENCE, self.papers, self._authors())
            return self._evidence

    def _authors(self) -> "Authors | None":
        """Who wrote the papers; None in a generation from before December 1, 2026."""
        from indexer import authors

        if authors.FILE not in self.manifest.files:
            return None
        opened = authors.Authors(self.path)
        self._agree(authors.FILE, "papers", len(opened))
        return opened

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
        _ = self.vectors, self.words, self.evidence, self.map

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
