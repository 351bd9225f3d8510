"""An approximate index beside the exact one, for a corpus of which an exact look takes too long.

The vectors are sorted into lists about centres (an inverted file), as codes of 4 bits for every two of
their dimensions, laid out so that a processor looks 32 of them up at a time (product quantization, "fast
scan": André et al., arXiv 1812.09162). A search walks through the lists nearest to the query until they
hold `rows` rows, takes the `depth` best by their codes, and orders those by their exact vectors, which
stay on the disk, memory-mapped. Of a filter's rows the same number is walked through, wherever they are,
and a filter that allows no more of them, or little of what is near the query, is searched exactly: so a
filter costs no recall.

How many rows that takes is measured when the index is written, with queries that look like a reader's:
see `write`.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from data.filter import Allowed
from indexer.settings import LEAST_RECALL
from indexer.vectors import CORES, OverExact, Rows, VectorIndex, bitmap, check_queries, python, save
from model.encoder import Vectors

KS = (100, 300)  # what a reader asks for at most, and what a hybrid ranking does
SAMPLED = 40  # vectors a list that the centres are learned from
ROUNDS = 8  # of k-means
UNLIKELY = 0.5  # of the share that a filter allows: with less near a query, it asks for what is far
FILTERED = 1.25  # times the rows, since the effort was measured without a filter
BLOCK = 1 << 16  # rows that are encoded together
TOGETHER = 256  # queries whose lists are chosen together
DEPTHS = tuple(1.25**step for step in range(4, 24))  # candidates for each answer, tried in this order
COVERED = (0.993, 0.994, 0.995, 0.9965, 0.998, 1.0)  # share of the answers in the lists, tried in turn
MARGIN = 0.0025  # above LEAST_RECALL, since other queries find a little less than those that set the effort
CANDIDATE = 160  # rows that are walked through in the time of comparing one exact vector


@dataclass(frozen=True)
class Effort:
    """For up to k answers: walk through so many rows, compare the best `depth` by their exact vectors."""

    k: int
    rows: int
    depth: int

    def for_k(self, k: int) -> "Effort":
        """The effort for more answers than it was measured for."""
        if k <= self.k:
            return self
        # Of 3,000,000 rows 100 answers take 680,000, 300 take 870,000: the root is more than enough.
        return Effort(k, int(self.rows * math.sqrt(k / self.k)), self.depth * k // self.k)


def write(
    folder: Path,
    exact: VectorIndex,
    queries: Vectors,
    told: Callable[[int], None] = lambda rows: None,
    like: Path | None = None,
) -> dict[str, Any]:
    """Write the lists of all vectors of `exact` into a new folder; what was measured, for the manifest.

    `queries` (n, dimension) are searched exactly and with the lists: half of them find the effort that
    reaches a recall of LEAST_RECALL, the other half measures it. They are kept beside the lists, for an
    update, with their exact answers, for a GPU (see indexer.codes). Where even the greatest effort falls
    short the recall says so. With `like`, the folder of an earlier index of nearly the same vectors, its
    centres are taken while they are as many as they should be. `told` hears how many rows are in.
    """
    began = time.monotonic()
    folder.mkdir()
    index = _emptied(like / "lists.faiss") if like else None
    if index is None or index.nlist != lists_for(len(exact)):
        index = _trained(exact)
    for start in range(0, len(exact), BLOCK):
        told(start)
        index.add(exact.stored(np.arange(start, min(start + BLOCK, len(exact)))))
    told(len(exact))
    save(folder / "lists.faiss", index)
    np.save(folder / "queries.npy", queries.astype(np.float16))
    queries = queries_of(folder)
    answers = exact.search(queries, max(KS))[1]
    np.save(folder / "answers.npy", answers)
    efforts, recall = _tuned(Lists(folder, exact, []), queries, answers)
    return {
        "lists": index.nlist,
        "efforts": [asdict(effort) for effort in efforts],
        "recall": round(recall, 4),
        "queries": len(queries),
        "seconds": round(time.monotonic() - began, 1),
    }


def queries_of(folder: Path) -> Vectors:
    """The queries that an index was measured with."""
    return np.asarray(np.load(folder / "queries.npy"), np.float32)


def answers_of(folder: Path, exact: VectorIndex) -> Rows:
    """The rows that an exact search finds for those queries, searched where an older index lacks them."""
    path = folder / "answers.npy"
    return np.asarray(np.load(path) if path.exists() else exact.search(queries_of(folder), max(KS))[1])


def lists_for(count: int) -> int:
    """How many lists so many vectors are sorted into: a power of two near 2.4 times their root."""
    return 1 << max(0, round(math.log2(2.4 * math.sqrt(count))))


def sample(exact: VectorIndex, nlist: int) -> Vectors:
    """Vectors that so many centres, and the codes, are learned from."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(exact), min(len(exact), max(SAMPLED * nlist, 4096)), replace=False)
    return exact.stored(np.sort(chosen))


def _trained(exact: VectorIndex) -> Any:
    """An empty index whose centres and codes are learned from a sample of the vectors."""
    nlist, dimension = lists_for(len(exact)), exact.dimension
    learned_from = sample(exact, nlist)
    parts = next(dimension // width for width in (2, 3, 1) if dimension % width == 0)
    index = python.index_factory(dimension, f"IVF{nlist},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False
    index.cp.niter, index.cp.spherical, index.cp.seed = ROUNDS, True, 0
    index.cp.max_points_per_centroid = len(learned_from)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # tests have few; no warning
    index.train(learned_from)
    return index


def _emptied(path: Path) -> Any:
    index = python.read_index(str(path))
    index.reset()
    return index


class Lists(OverExact):
    """The approximate index of one generation: a VectorSource, as is the exact one, which it looks into."""

    def __init__(self, folder: Path, exact: VectorIndex, efforts: Sequence[Effort]) -> None:
        super().__init__(exact)
        self._index = python.read_index(str(folder / "lists.faiss"))
        self._efforts = efforts
        self._centres: Vectors = self._index.quantizer.reconstruct_n(0, self._index.nlist)
        lists = range(self._index.nlist)
        self._sizes = np.array([self._index.invlists.list_size(number) for number in lists])
        self._allowed = lru_cache(8)(self._counted)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: Vectors, k: int, keep: Allowed | None = None) -> tuple[Vectors, Rows]:
        """The k rows of each query that come first by inner product, nearly all of them: see VectorIndex.

        An answer is as long as an exact one, and its scores are exact.
        """
        check_queries(queries, self.dimension)
        allowed = len(self) if keep is None else len(keep)
        k = min(k, allowed)
        effort = self._effort(k, allowed)
        if allowed <= effort.rows:
            return self._exact.search(queries, k, keep)
        scores, rows = self.walk(queries, k, effort, keep)
        if keep is not None and (far := self._far(queries, effort.rows, keep)).any():
            scores[far], rows[far] = self._exact.search(queries[far], k, keep)
        return scores, rows

    def _far(self, queries: Vectors, rows: int, keep: Allowed) -> NDArray[np.bool_]:
        """Of each query whether the filter allows little of what is near it: its lists then say little."""
        lists = self.nearest_lists(queries)[1]
        sizes, allowed = self._sizes[lists], self._allowed(keep)[lists]
        near = np.cumsum(sizes, axis=1) - sizes < rows
        expected = (sizes * near).sum(axis=1) * len(keep) / len(self)
        return np.asarray((allowed * near).sum(axis=1) < UNLIKELY * expected)

    def _effort(self, k: int, allowed: int) -> Effort:
        """The effort for k answers of so many rows that a filter allows; `rows` counts those alone."""
        effort = next((e for e in self._efforts if k <= e.k), self._efforts[-1]).for_k(k)
        if allowed == len(self):
            return effort
        # The first k of a tenth of the rows are as far away as the first 10 k of all.
        wide = next((e for e in self._efforts if k * len(self) <= e.k * allowed), self._efforts[-1])
        far = wide.for_k(k * len(self) // max(allowed, 1)).rows * allowed // len(self)
        return replace(effort, rows=int(FILTERED * far))

    def walk(
        self, queries: Vectors, k: int, effort: Effort, keep: Allowed | None = None
    ) -> tuple[Vectors, Rows]:
        """A search with this effort; rows of -1 where it was too small to find k."""
        queries = np.ascontiguousarray(queries, np.float32)
        parts = (queries[start : start + TOGETHER] for start in range(0, len(queries), TOGETHER))
        found = (rows for part in parts for rows in self._candidates(part, effort, keep))
        return ordered(self._exact, queries, found, k)

    def _candidates(self, queries: Vectors, effort: Effort, keep: Allowed | None) -> Iterator[Rows]:
        """The best rows of each query by their codes, in the order of the corpus."""
        sizes = self._sizes if keep is None else self._allowed(keep)
        near, lists = self.nearest_lists(queries)
        looked = np.cumsum(sizes[lists], axis=1)
        used = int((looked[:, :-1] < effort.rows).sum(axis=1).max()) + 1
        before = np.concatenate([np.zeros((len(queries), 1), np.int64), looked[:, : used - 1]], axis=1)
        lists, near = lists[:, :used], near[:, :used]
        lists = np.where((before < effort.rows) & (sizes[lists] > 0), lists, -1)
        if len(queries) >= CORES:
            rows = self._scan(queries, lists, near, effort.depth, keep)[1]
        else:
            codes, rows = self._exact.on_each_core(
                lambda part: self._scan(
                    queries, lists[:, part::CORES], near[:, part::CORES], effort.depth, keep
                )
            )
            best = np.argpartition(-codes, effort.depth - 1, axis=1)[:, : effort.depth]
            rows = np.take_along_axis(rows, best, axis=1)
        for found in rows:
            yield np.sort(found[found >= 0])

    def _scan(
        self, queries: Vectors, lists: Rows, near: Vectors, depth: int, keep: Allowed | None
    ) -> tuple[Vectors, Rows]:
        """The best rows of some lists by their codes, shape (len(queries), depth); -1 pads them."""
        asked: dict[str, Any] = {} if keep is None else {"sel": bitmap(keep)}
        params = python.SearchParametersIVF(nprobe=lists.shape[1], **asked)
        codes = np.full((len(queries), depth), -np.inf, np.float32)
        rows = np.full(codes.shape, -1, np.int64)
        if lists.shape[1]:
            arrays = [
                np.ascontiguousarray(lists, np.int64),
                np.ascontiguousarray(near, np.float32),
                codes,
                rows,
            ]
            # FAISS's own wrapper takes no parameters here
            self._index.search_preassigned_c(
                len(queries), python.swig_ptr(queries), depth, *map(python.swig_ptr, arrays), False, params
            )
        return codes, rows

    def nearest_lists(self, queries: Vectors) -> tuple[Vectors, Rows]:
        """All lists by their centres' inner products with each query, the greatest first."""
        # Not by BLAS for one: its threads go on spinning where the codes are scanned next.
        one = len(queries) < CORES
        near = np.einsum("qd,cd->qc", queries, self._centres) if one else queries @ self._centres.T
        order = np.argsort(-near, axis=1)
        return np.take_along_axis(near, order, axis=1), order

    @cached_property
    def list_of(self) -> NDArray[np.uint32]:
        """The list that each row is in."""
        found = np.empty(len(self), np.uint32)
        for number in np.flatnonzero(self._sizes).tolist():
            ids = self._index.invlists.get_ids(number)
            found[faiss.rev_swig_ptr(ids, int(self._sizes[number]))] = number
        return found

    def _counted(self, keep: Allowed) -> NDArray[np.int64]:
        """How many allowed rows each list has."""
        return np.bincount(self.list_of[keep.rows], minlength=len(self._sizes))


def ordered(exact: VectorIndex, queries: Vectors, candidates: Iterable[Rows], k: int) -> tuple[Vectors, Rows]:
    """The first k of each query's candidates by their exact vectors; rows of -1 where they are fewer."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    for number, found in enumerate(candidates):
        every = exact.score(queries[number], found)
        best = np.argsort(-every, kind="stable")[:k]
        scores[number, : len(best)], rows[number, : len(best)] = every[best], found[best]
    return scores, rows


def _tuned(lists: Lists, queries: Vectors, answers: Rows) -> tuple[list[Effort], float]:
    """The least efforts that reach LEAST_RECALL, and the recall of the first k that another half measures."""
    tried, measured = queries[::2], queries[1::2]
    efforts, recalls = [], []
    for k in (min(k, len(lists)) for k in KS):
        effort = _least(lists, tried, answers[::2, :k])
        efforts.append(effort)
        recalls.append(share(lists.walk(measured, k, effort)[1], answers[1::2, :k]))
    return efforts, recalls[0]


def _least(lists: Lists, queries: Vectors, answers: Rows) -> Effort:
    """The cheapest effort that finds LEAST_RECALL of the answers and MARGIN more; the greatest if none."""
    k = answers.shape[1]
    found: list[Effort] = []
    needed = np.sort(_rows_before(lists, queries, answers), axis=None)
    for covered in COVERED:
        rows = int(needed[min(len(needed) - 1, int(covered * len(needed)))]) + 1
        for factor in DEPTHS:
            depth = min(int(k * factor), len(lists))
            effort = Effort(k, max(rows, depth), depth)
            if found and _cost(effort) >= min(map(_cost, found)):
                break
            if share(lists.walk(queries, k, effort)[1], answers) >= LEAST_RECALL + MARGIN:
                found.append(effort)
                break
    return min(found, key=_cost) if found else effort


def _cost(effort: Effort) -> int:
    return effort.rows + CANDIDATE * effort.depth


def _rows_before(lists: Lists, queries: Vectors, answers: Rows) -> NDArray[np.int64]:
    """How many rows a query walks through before it comes to the list of each answer."""
    _, order = lists.nearest_lists(queries)
    place = np.argsort(order, axis=1)
    sizes = np.bincount(lists.list_of, minlength=order.shape[1])[order]
    before = np.cumsum(sizes, axis=1) - sizes
    return np.take_along_axis(before, np.take_along_axis(place, lists.list_of[answers].astype(int), 1), 1)


def share(found: Rows, answers: Rows) -> float:
    """The mean share of the answers that were found."""
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(found, answers, strict=True)]))
