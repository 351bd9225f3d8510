"""Codes of all vectors in the memory of a GPU that the vectors themselves do not fit.

An inverted file of product quantization (FAISS's GpuIndexIVFPQ), made when an index is opened, for the card
that is there: no file holds it. As with the CPU's lists (indexer.nearest), the best by their codes are
ordered by their exact vectors, which stay on the disk. What the card does not answer (filters, since
selectors need not work there, and more answers than it selects) those lists do.

No graph (CAGRA), since it keeps the vectors themselves on the card, as 32-bit floats.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.filter import Allowed
from indexer import nearest
from indexer.gpu import MOST, Card, fitted
from indexer.nearest import BLOCK, KS, ROUNDS, TOGETHER, Lists
from indexer.settings import LEAST_RECALL
from indexer.vectors import OverExact, Rows, VectorIndex, check_queries, python
from model.encoder import Vectors

LISTS = 2 * MOST  # at most, so that it can look at half of the rows: of 3,000,000 queries need a quarter
PARTS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)  # bytes of a code that FAISS knows there
ROW = 4  # bytes of a row besides its code
GROWS = 2  # times the memory, since a list grows by doubling
MARGIN = 0.004  # above LEAST_RECALL: more than the lists', whose efforts go in steps and overshoot
CANDIDATE = 5000  # codes that are looked at in the time of comparing one exact vector: assumed, not measured


def by_codes(lists: Lists, exact: VectorIndex, card: Card, measured: tuple[Vectors, Rows]) -> "Codes | None":
    """Codes of all vectors on the card, as long as they fit it; None where none do. See Codes."""
    parts = parts_for(len(exact), exact.dimension, card)
    return fitted(lambda: Codes(lists, exact, card, parts, measured)) if parts else None


def parts_for(count: int, dimension: int, card: Card) -> int:
    """The bytes of the longest codes that fit the card; 0 if none do."""
    able = (parts for parts in PARTS if dimension % parts == 0)
    return next((parts for parts in able if card.holds(GROWS * count * (parts + ROW))), 0)


@dataclass(frozen=True)
class Probe:
    """For up to k answers: look into so many lists, compare the best `depth` by their exact vectors."""

    k: int
    lists: int
    depth: int

    def for_k(self, k: int) -> "Probe":
        """For more answers than it was measured for; as nearest.Effort does it."""
        if k <= self.k:
            return self
        return Probe(k, math.ceil(self.lists * math.sqrt(k / self.k)), self.depth * k // self.k)


class Codes(OverExact):
    """Codes of all vectors on a card: a VectorSource whose answers have exact scores.

    `measured` are queries, (n, dimension), and their rows by exact search: half of them find the least
    effort for a recall of LEAST_RECALL, the other half measures `recall`, the least over KS.
    """

    def __init__(
        self, lists: Lists, exact: VectorIndex, card: Card, parts: int, measured: tuple[Vectors, Rows]
    ) -> None:
        super().__init__(exact)
        self._lists = lists
        self._one = threading.Lock()  # search at a time, since FAISS's resources serve one
        self._index = _coded(exact, card, parts)
        queries, answers = measured
        self._probes = self._tuned(queries[::2], answers[::2])
        self.recall = min(self._share(probe, queries[1::2], answers[1::2]) for probe in self._probes)

    def search(self, queries: Vectors, k: int, keep: Allowed | None = None) -> tuple[Vectors, Rows]:
        """The k rows of each query that come first by inner product, nearly all of them: see Lists."""
        check_queries(queries, self.dimension)
        k = min(k, len(self))
        probe = next((p for p in self._probes if k <= p.k), self._probes[-1]).for_k(k)
        able = keep is None and max(probe.depth, min(probe.lists, self._index.nlist)) <= MOST
        found = fitted(lambda: self._best(queries, k, probe)) if able else None
        if found is None:
            return self._lists.search(queries, k, keep)
        scores, rows = found
        if (short := (rows < 0).any(axis=1)).any():  # its lists held less than k
            scores[short], rows[short] = self._lists.search(queries[short], k)
        return scores, rows

    def _best(self, queries: Vectors, k: int, probe: Probe) -> tuple[Vectors, Rows]:
        found = self._candidates(queries, probe.lists, probe.depth)
        return nearest.ordered(self._exact, queries, (np.sort(rows[rows >= 0]) for rows in found), k)

    def _candidates(self, queries: Vectors, lists: int, depth: int) -> Rows:
        """The best rows of so many lists by their codes, the best first, (len(queries), depth); -1 pads."""
        queries = np.ascontiguousarray(queries, np.float32)
        params = python.SearchParametersIVF(nprobe=min(lists, self._index.nlist))
        found = [np.empty((0, depth), np.int64)]
        for start in range(0, len(queries), TOGETHER):
            with self._one:
                part = self._index.search(queries[start : start + TOGETHER], depth, params=params)
            found.append(part[1])
        return np.concatenate(found)

    def _tuned(self, queries: Vectors, answers: Rows) -> list[Probe]:
        """For each of KS the least effort that finds LEAST_RECALL and MARGIN more; the greatest if none."""
        most = min(MOST, self._index.nlist)
        tried = sorted({min(most, round(2 ** (step / 2))) for step in range(2 * most.bit_length())})
        depth = min(MOST, len(self))
        places = {n: _places(self._candidates(queries, n, depth), answers) for n in tried}
        probes = []
        for k in (min(k, answers.shape[1]) for k in KS):
            last = math.ceil((LEAST_RECALL + MARGIN) * len(queries) * k) - 1
            needed = {n: int(np.sort(place[:, :k], axis=None)[last]) + 1 for n, place in places.items()}
            able = [Probe(k, n, max(k, place)) for n, place in needed.items() if place <= depth]
            probes.append(min(able, key=self._cost) if able else Probe(k, most, depth))
        return probes

    def _share(self, probe: Probe, queries: Vectors, answers: Rows) -> float:
        return nearest.share(self._best(queries, probe.k, probe)[1], answers[:, : probe.k])

    def _cost(self, probe: Probe) -> float:
        return probe.lists * len(self) / int(self._index.nlist) + CANDIDATE * probe.depth


def _places(candidates: Rows, answers: Rows) -> Rows:
    """The place of each answer among its query's candidates, their number if it is none of them."""
    places = np.full(answers.shape, candidates.shape[1])
    for place, found, wanted in zip(places, candidates, answers, strict=True):
        _, here, there = np.intersect1d(found[found >= 0], wanted, assume_unique=True, return_indices=True)
        place[there] = here
    return places


def _coded(exact: VectorIndex, card: Card, parts: int) -> Any:
    """An index of all vectors on the card, learned from a sample of them."""
    index = card.coded(exact.dimension, min(LISTS, nearest.lists_for(len(exact))), parts)
    sample = nearest.sample(exact, index.nlist)
    index.cp.niter, index.cp.seed = ROUNDS, 0
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # tests have few; no warning
    index.train(sample)
    for start in range(0, len(exact), BLOCK):
        index.add(exact.stored(np.arange(start, min(start + BLOCK, len(exact)))))
    return index
