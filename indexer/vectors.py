"""The FAISS index of a corpus's vectors: exact, half precision on disk and in memory; searched by the CPU."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.filter import Allowed, Selection
from model.encoder import Vectors

Rows = NDArray[np.int64]
python: Any = faiss  # its stubs know the C++ signatures alone
FEW = 4096  # selected rows that are faster compared one by one than by a scan that skips the others
SPLIT = 1 << 14  # rows from which on one query is worth the trouble of several cores
CORES = python.omp_get_max_threads()


class VectorSource(Protocol):
    """What a search asks of the vectors of a generation, wherever they are: see VectorIndex."""

    dimension: int

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, k: int, keep: Selection | None = None) -> tuple[Vectors, Rows]: ...

    def stored(self, rows: Sequence[int] | Rows) -> Vectors: ...

    def score(self, query: Vectors, rows: Sequence[int]) -> Vectors: ...


def check_queries(queries: Vectors, dimension: int) -> None:
    """Raise UserError for queries of another dimension or not finite."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise UserError(f"queries of shape {queries.shape} for an index of {dimension} dimensions")
    if not np.isfinite(queries).all():
        raise UserError("a query vector with a value that is not finite; use another encoder")


def write(path: Path, dimension: int, blocks: Iterable[Vectors]) -> int:
    """Write an exact inner-product index of the vectors, as 16-bit floats; the number written.

    Raises UserError for a block of another dimension or with a vector that is not finite or is zero
    (as 16-bit floats), which FAISS itself would take without a word and lose.
    """
    index = faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != dimension:
            raise UserError(f"vectors of shape {block.shape} for an index of {dimension} dimensions")
        if not _sound(block.astype(np.float16)):
            raise UserError("a vector that is not finite or is zero; encode the corpus again")
        index.add(np.ascontiguousarray(block, np.float32))
    save(path, index)
    return int(index.ntotal)


def save(path: Path, index: Any) -> None:
    """Write an index of FAISS, whose own writer closes a file that met a full disk without a word."""
    with path.open("wb") as file:
        try:
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]  # not in its stubs
            faiss.write_index(index, writer)
        except RuntimeError as error:
            raise OSError(f"{path.name}: FAISS could not write {index.ntotal:,} vectors") from error


def _sound(halves: NDArray[np.float16]) -> bool:
    """Whether every row, of finite numbers, is a direction; looking at the bits is fast."""
    step = max(1, (1 << 20) // halves.shape[1])  # rows of a megabyte or two: a copy of all would double it
    for start in range(0, len(halves), step):
        bits = halves[start : start + step].view(np.uint16) & 0x7FFF  # without the sign
        if (bits >= 0x7C00).any() or not bits.any(axis=1).all():
            return False
    return True


class VectorIndex:
    """The vectors of one generation, ready to be searched, memory-mapped.

    Raises UserError for a file with a vector that is not finite or is zero.
    """

    def __init__(self, path: Path) -> None:
        stored: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # read where it lies
        self._stored = stored  # owns the memory that _halves looks at
        self._index: Any = stored
        self.dimension = int(stored.d)
        self._count = int(stored.ntotal)
        codes = faiss.rev_swig_ptr(stored.codes.data(), stored.codes.size())
        self._halves = codes.view(np.float16).reshape(self._count, self.dimension)
        if not _sound(self._halves):
            raise UserError(f"{path} holds a vector that is not finite or is zero; build the index again")
        self._pool = ThreadPoolExecutor(CORES, "scan")

    def __len__(self) -> int:
        return self._count

    def search(self, queries: Vectors, k: int, keep: Allowed | None = None) -> tuple[Vectors, Rows]:
        """The k nearest rows of each query by inner product: (scores, rows), best first.

        Both have shape (len(queries), min(k, number of rows)); with `keep`, only its rows are
        searched and count. Raises UserError for queries of another dimension or not finite.
        """
        check_queries(queries, self.dimension)
        k = min(k, self._count if keep is None else len(keep))
        queries = np.ascontiguousarray(queries, np.float32)
        if keep is not None and len(keep) <= FEW:
            return self._compare(queries, k, keep.rows)
        if len(queries) < CORES and self._count >= SPLIT:
            return self._search_split(queries, k, keep)
        only = None if keep is None else python.SearchParameters(sel=bitmap(keep))
        scores, rows = self._index.search(queries, k, params=only)
        return scores, rows

    def _search_split(self, queries: Vectors, k: int, keep: Allowed | None) -> tuple[Vectors, Rows]:
        """FAISS gives each query to one core; here each core gets a part of the rows."""
        allowed = None if keep is None else bitmap(keep)

        def part(number: int) -> tuple[Vectors, Rows]:
            only = python.IDSelectorRange(number * self._count // CORES, (number + 1) * self._count // CORES)
            if allowed:
                only = python.IDSelectorAnd(only, allowed)
            scores, rows = self._index.search(queries, k, params=python.SearchParameters(sel=only))
            return scores, rows

        scores, rows = self.on_each_core(part)
        best = np.lexsort((rows, np.where(rows < 0, np.inf, -scores)), axis=1)[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def _compare(self, queries: Vectors, k: int, few: Rows) -> tuple[Vectors, Rows]:
        every = queries @ self.stored(few).T
        best = np.argsort(-every, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(every, best, axis=1), few[best]

    def on_each_core(self, part: Callable[[int], tuple[Vectors, Rows]]) -> tuple[Vectors, Rows]:
        """The answers of part(0) to part(CORES - 1), computed at once, side by side."""

        def alone(number: int) -> tuple[Vectors, Rows]:
            python.omp_set_num_threads(1)  # of this thread
            return part(number)

        scores, rows = zip(*self._pool.map(alone, range(CORES)), strict=True)
        return np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)

    def stored(self, rows: Sequence[int] | Rows) -> Vectors:
        """The vectors of these rows as the index holds them, shape (len(rows), dimension)."""
        return self._halves[np.asarray(rows, np.int64)].astype(np.float32)

    def score(self, query: Vectors, rows: Sequence[int] | Rows) -> Vectors:
        """The inner products of one query, shape (dimension,), with these rows, shape (len(rows),)."""
        vectors = self._halves[np.asarray(rows, np.int64)].astype(np.float32)
        return np.asarray(np.einsum("nd,d->n", vectors, query))  # not by BLAS: see indexer.nearest


class OverExact:
    """A VectorSource that finds rows in a way of its own, and reads and compares them as the exact index."""

    def __init__(self, exact: VectorIndex) -> None:
        self._exact = exact
        self.dimension = exact.dimension

    def __len__(self) -> int:
        return len(self._exact)

    def stored(self, rows: Sequence[int] | Rows) -> Vectors:
        """See VectorIndex."""
        return self._exact.stored(rows)

    def score(self, query: Vectors, rows: Sequence[int] | Rows) -> Vectors:
        """See VectorIndex."""
        return self._exact.score(query, rows)


def bitmap(keep: Allowed) -> Any:
    """The selected rows as FAISS knows them."""
    return python.IDSelectorBitmap(np.packbits(keep.mask, bitorder="little"))
