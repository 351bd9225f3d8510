"""Known citations of an index: the sentences by which others cite its papers, and what follows from them.

They are kept by the paper that they cite. A paper's *profile* is the mean of its contexts' vectors
(Profiler, arXiv 2603.17361): what others say of it, where its own vector is what it says of itself. Both
are compared with a query, as are the words of each context.

    evidence/papers.arrow     the papers cited: how often, how many contexts are kept, the norm of the mean
    evidence/profiles.faiss   the mean of the contexts' vectors of each
    evidence/contexts.arrow   the contexts, those of one paper after the other
    evidence/vectors.faiss    their vectors
    evidence/words/           their words, if they have any: the starter corpus ships vectors alone
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.contexts import Citation, Context, citations, read_queries, unmarked
from data.corpus import Reading
from data.errors import UserError
from data.filter import Allowed, Chosen
from data.table import PaperTable
from indexer import lexical, vectors
from indexer.authors import Authors, Renown, members
from indexer.lexical import LexicalIndex
from indexer.shards import Folder, Progress, packed
from indexer.vectors import Rows, VectorIndex
from indexer.why import stems
from model.encoder import Encoder, Vectors

PORTION = 1024  # contexts that are encoded and kept together: what a kill can cost
WORDED = 300  # contexts that share words with a query
SPOKEN_FOR = 150  # papers whose profile is near to a query

_PAPERS = pa.schema(
    [("paper_id", pa.string()), ("cited", pa.int64()), ("kept", pa.int64()), ("norm", pa.float64())]
)
_CONTEXTS = pa.schema(
    [("cited_id", pa.string()), ("citing_id", pa.string()), ("text", pa.string()), ("year", pa.int32())]
)


@dataclass(frozen=True)
class Known:
    """Citations in the order in which they are kept: by the paper cited.

    For each of `ids`: how often it is `cited`, how many of the citations are `kept` (all, or a sample),
    and the unit vector and norm of the mean over all. `vectors` are those of the kept ones, one a row.
    """

    ids: list[str]
    cited: NDArray[np.int64]
    kept: NDArray[np.int64]
    profiles: Vectors
    norms: NDArray[np.float64]
    citations: list[Citation]
    vectors: Vectors


def read(source: str) -> tuple[list[Citation], Reading]:
    """The citations of a contexts file (see data.contexts.read_queries), each once.

    Raises UserError where nothing can be read.
    """
    queries, reading = read_queries(source)
    return list(dict.fromkeys(citations(queries))), reading


def known(every: Sequence[Citation], encoded: Vectors) -> Known:
    """Citations and their contexts' unit vectors, sorted and summed up; no citation may come twice."""
    order = sorted(range(len(every)), key=lambda place: every[place].cited_id)
    ordered = [every[place] for place in order]
    ids, counts = np.unique([c.cited_id for c in ordered], return_counts=True)
    rows = encoded[order]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    means = np.add.reduceat(rows, starts, axis=0) / counts[:, None]
    norms = np.maximum(np.linalg.norm(means, axis=1), 1e-6)
    profiles = (means / norms[:, None]).astype(np.float32)
    return Known([str(i) for i in ids], counts, counts, profiles, norms.astype(np.float64), ordered, rows)


def encoded(every: Sequence[Citation], encoder: Encoder, staging: Path, progress: Progress) -> Vectors:
    """The vectors of the citations' contexts, shape (citations, dimension); a text is encoded once.

    Finished portions are kept in the folder `staging`, where a build that was killed finds them.
    """
    texts = list(dict.fromkeys(c.text for c in every))
    folder = Folder(str(staging))
    finished = folder.finished()
    blocks = [np.zeros((0, encoder.dimension), np.float32)]
    for start in range(0, len(texts), PORTION):
        progress("contexts", start, len(texts), " contexts")
        part = texts[start : start + PORTION]
        key = hashlib.sha256("\0".join([encoder.fingerprint, encoder.precision, *part]).encode()).hexdigest()[
            :24
        ]
        name = finished.get(key, "")
        if not name or not folder.is_whole(name):
            made = encoder.encode_contexts([Context(text) for text in part])
            name = folder.write(
                key, packed([str(start + n) for n in range(len(part))], made.astype(np.float16))
            )
        blocks.append(folder.vectors(name))
    progress("contexts", len(texts), len(texts), " contexts")
    place = {text: number for number, text in enumerate(texts)}
    return np.concatenate(blocks)[[place[c.text] for c in every]]


def write(folder: Path, content: Known) -> None:
    """Write the files of the evidence into a new folder."""
    folder.mkdir(parents=True)
    papers = [content.ids, content.cited, content.kept, content.norms]
    _write_table(folder / "papers.arrow", _PAPERS, papers)
    columns = [[getattr(c, name) for c in content.citations] for name in _CONTEXTS.names]
    _write_table(folder / "contexts.arrow", _CONTEXTS, columns)
    dimension = content.profiles.shape[1]
    vectors.write(folder / "profiles.faiss", dimension, [content.profiles])
    vectors.write(folder / "vectors.faiss", dimension, [content.vectors])
    if any(c.text for c in content.citations):
        lexical.write(folder / "words", _portions(content.citations))


def _write_table(path: Path, schema: pa.Schema, columns: Sequence[Any]) -> None:
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _portions(every: Sequence[Citation]) -> Iterator[list[str]]:
    for start in range(0, len(every), PORTION):
        yield [unmarked(c.text) for c in every[start : start + PORTION]]


@dataclass(frozen=True)
class Said:
    """What the known citations say of some papers in the light of one query; each of shape (papers,).

    `cited` is how often a paper is cited, `renown`, of shape (papers, 4), how often other papers by its
    authors are: see indexer.authors.Renown. `profile` is the cosine of query and
    profile, `nearest` that of the query and the nearest context, `words` the BM25 score of the context that
    shares most with it, `draft` the cosine of the draft and the profile; these are 0 for a paper that is
    not cited.
    """

    cited: NDArray[np.int64]
    renown: Vectors
    profile: Vectors
    nearest: Vectors
    words: Vectors
    draft: Vectors


class Evidence:
    """The citations that an index knows, ready to be asked.

    `papers` are the papers of the index and `authors` who wrote them, None where it does not say.
    """

    def __init__(self, folder: Path, papers: PaperTable, authors: Authors | None = None) -> None:
        self._papers = _table(folder / "papers.arrow")
        self._contexts = _table(folder / "contexts.arrow")
        self._profiles = VectorIndex(folder / "profiles.faiss")
        self._vectors = VectorIndex(folder / "vectors.faiss")
        self._words = LexicalIndex(folder / "words") if (folder / "words").is_dir() else None
        self._cited, kept = _numbers(self._papers["cited"]), _numbers(self._papers["kept"])
        self._norms = _numbers(self._papers["norm"])
        self._starts = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
        parts = len(self._papers), len(self._profiles), int(self._starts[-1]), len(self._contexts)
        if parts[0] != parts[1] or parts[2] != parts[3] or parts[3] != len(self._vectors):
            raise UserError(f"{folder}: its parts are not of one size {parts}; build the index again")
        self._rows = papers.rows_of(self._papers["paper_id"].to_pylist())  # -1: not in this corpus
        self._order = np.argsort(self._rows)
        here = self._rows >= 0
        self._renown = Renown(authors, self._rows[here], self._cited[here]) if authors else None
        self.by = lru_cache(256)(self._by)

    def __len__(self) -> int:
        """How many citations are known."""
        return int(self._cited.sum())

    @property
    def has_words(self) -> bool:
        """Whether the contexts themselves are known, and not their vectors alone."""
        return self._words is not None

    def known(self) -> Known:
        """All that is here, for an index that is to have more."""
        rows = np.arange(len(self._contexts))
        return Known(
            self._papers["paper_id"].to_pylist(),
            self._cited,
            np.diff(self._starts),
            self._profiles.stored(np.arange(len(self._profiles))),
            self._norms,
            [Citation(**row) for row in self._contexts.to_pylist()],
            self._vectors.stored(rows),
        )

    def cited(self, row: int, without: str = "") -> int:
        """How many citations of the paper of this row are known, those by the paper `without` aside."""
        place = int(self._places(np.array([row]))[0])
        if place < 0:
            return 0
        gone = self.by(without)
        lost = (gone >= self._starts[place]) & (gone < self._starts[place + 1])
        return int(self._cited[place] - lost.sum())

    def like(self, row: int, context: Context, count: int, without: str = "") -> tuple[Citation, ...]:
        """Of the citations of the paper of this row, those that share most words with the context first.

        Of each citing paper one at most, and none of the paper `without`.
        """
        place = int(self._places(np.array([row]))[0])
        if place < 0:
            return ()
        some = self._contexts.slice(self._starts[place], self._starts[place + 1] - self._starts[place])
        found = [Citation(**cited) for cited in some.to_pylist()]
        wanted = stems(unmarked(context.text))
        best: dict[str, tuple[int, Citation]] = {}
        for citation in found:
            if citation.text and not (without and citation.citing_id == without):
                shares = len(wanted & stems(unmarked(citation.text)))
                key = citation.citing_id or citation.text
                if key not in best or shares > best[key][0]:
                    best[key] = shares, citation
        ordered = sorted(best.values(), key=lambda rated: -rated[0])
        return tuple(citation for _, citation in ordered[:count])

    def near(self, queries: Vectors, keep: Allowed | None) -> Rows:
        """The rows of the papers with the profiles nearest to each query, shape (queries, SPOKEN_FOR)."""
        allowed = self._rows >= 0
        if keep is not None:
            allowed = allowed & keep.mask[self._rows]
        _, places = self._profiles.search(queries, SPOKEN_FOR, None if allowed.all() else Chosen(allowed))
        return self._rows[places]

    def worded(self, texts: Sequence[str]) -> list[tuple[Rows, Vectors]]:
        """The kept contexts that share most words with each text, and their scores."""
        if self._words is None:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(texts)
        scores, places = self._words.search(texts, WORDED)
        return [(p[s > 0], s[s > 0]) for s, p in zip(scores, places, strict=True)]

    def cited_in(self, contexts: Rows) -> Rows:
        """The row of the paper that each kept context cites; -1 where this corpus has it not."""
        return self._rows[np.searchsorted(self._starts, contexts, side="right") - 1]

    def _by(self, citing_id: str) -> Rows:
        """The kept contexts of a citing paper."""
        if not citing_id:
            return np.zeros(0, np.int64)
        return np.flatnonzero(_numbers(pc.equal(self._contexts["citing_id"], citing_id).cast(pa.uint8())))

    def _places(self, rows: Rows) -> Rows:
        """Where the papers of these rows are here; -1 for those that are not cited."""
        found = np.minimum(np.searchsorted(self._rows, rows, sorter=self._order), len(self._rows) - 1)
        places = self._order[found]
        return np.where(self._rows[places] == rows, places, -1)

    def say(
        self,
        query: Vectors,
        rows: Rows,
        worded: tuple[Rows, Vectors],
        draft: Vectors | None = None,
        without: str = "",
        renown: bool = True,
    ) -> Said:
        """What is known of the papers of these rows, the contexts of the paper `without` left out.

        Without `renown` that stays 0: only a ranker asks for it.
        """
        places = self._places(rows)
        here = np.flatnonzero(places >= 0)
        place = places[here]
        gone = self.by(without)
        cited = np.zeros(len(rows), np.int64)
        cited[here] = self._cited[place]
        profiles = self._profiles.stored(place)
        if len(gone):
            cited[here] -= self._without(place, profiles, gone)
        of_authors = np.zeros((len(rows), 4), np.float32)
        if renown and self._renown:
            lost = self.cited_in(gone)
            of_authors = self._renown.of(rows, cited, lost[lost >= 0])
        said = Said(cited, of_authors, *(np.zeros(len(rows), np.float32) for _ in range(4)))
        said.profile[here] = profiles @ query
        if draft is not None:
            said.draft[here] = profiles @ draft
        said.nearest[here] = self._nearest(query, place, gone)
        contexts, scores = worded
        stays = ~np.isin(contexts, gone)
        best: dict[int, float] = {}
        for row, score in zip(self.cited_in(contexts[stays]).tolist(), scores[stays].tolist(), strict=True):
            best[row] = max(score, best.get(row, 0.0))
        said.words[:] = [best.get(row, 0.0) for row in rows.tolist()]
        alone = cited <= 0  # known by the draft's own sentences and no others
        for values in (said.profile, said.nearest, said.words, said.draft):
            values[alone] = 0.0
        return said

    def _nearest(self, query: Vectors, place: Rows, gone: Rows) -> Vectors:
        """The best cosine of the query with a kept context of each of these papers."""
        contexts, sizes = members(self._starts, place)
        cosines = self._vectors.score(query, contexts)
        if len(gone):
            cosines[np.isin(contexts, gone)] = 0.0
        if not len(place):
            return np.zeros(0, np.float32)
        return np.asarray(np.maximum.reduceat(cosines, np.cumsum(sizes) - sizes), np.float32)

    def _without(self, place: Rows, profiles: Vectors, gone: Rows) -> NDArray[np.int64]:
        """Take the contexts that are gone out of the profiles of these papers; how many each loses."""
        owner = np.searchsorted(self._starts, gone, side="right") - 1
        lost = np.bincount(owner, minlength=len(self._papers))[place]
        for number in np.flatnonzero(lost):
            own = place[number]
            total = profiles[number] * self._norms[own] * self._cited[own]
            total -= self._vectors.stored(gone[owner == own]).sum(axis=0)
            profiles[number] = total / max(float(np.linalg.norm(total)), 1e-6)
        return lost


def _table(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers, of which none is missing."""
    return np.from_dlpack(column.combine_chunks())


def merged(before: Known | None, new: Sequence[Citation], made: Vectors) -> Known:
    """What is known once more citations have come, none of which is known already."""
    more = known(new, made)
    if before is None:
        return more
    ids = sorted({*before.ids, *more.ids})
    place = {paper_id: number for number, paper_id in enumerate(ids)}
    sums = np.zeros((len(ids), made.shape[1]), np.float64)
    cited, kept = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for part in (before, more):
        where = [place[paper_id] for paper_id in part.ids]
        cited[where] += part.cited
        kept[where] += part.kept
        sums[where] += part.profiles * (part.norms * part.cited)[:, None]
    norms = np.maximum(np.linalg.norm(sums / cited[:, None], axis=1), 1e-6)
    profiles = (sums / (cited * norms)[:, None]).astype(np.float32)
    every = [*before.citations, *more.citations]
    order = sorted(range(len(every)), key=lambda number: every[number].cited_id)
    rows = np.concatenate([before.vectors, more.vectors])[order]
    return Known(ids, cited, kept, profiles, norms, [every[number] for number in order], rows)
