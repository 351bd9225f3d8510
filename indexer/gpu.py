"""A GPU, and the vectors of a generation in its memory, where they fit: see indexer.codes where they do not.

No GPU has run this yet. Only `card_of` needs one: in a Card of FAISS's CPU classes, which have the same
functions, all else runs as it does in a GPU's, and is tested.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import faiss
import numpy as np

from data.errors import UserError
from data.filter import Allowed
from indexer.vectors import FEW, OverExact, Rows, VectorIndex, check_queries, python
from model.encoder import Vectors

SHARE = 0.8  # of the free memory that vectors may take; FAISS keeps up to 1.5 GB for the searches
MOST = 2048  # answers that FAISS selects on a GPU, and lists that it looks into
SHARD = 1 << 20  # exact vectors that are copied at once
GATHERED = 4  # selections whose vectors are held a second time
Made = TypeVar("Made")


@dataclass(frozen=True)
class Card:
    """A GPU: the bytes that are free in its memory, and what makes empty indexes there."""

    free: int
    flat: Callable[[int], Any]  # of a dimension, exact, by inner product
    coded: Callable[[int, int, int], Any]  # of a dimension, with so many lists and bytes a code

    def holds(self, size: int) -> bool:
        """Whether so many bytes of vectors have room."""
        return size <= SHARE * self.free

    def holds_exact(self, count: int, dimension: int) -> bool:
        """Whether so many vectors have, as 16-bit floats."""
        return self.holds(2 * count * dimension)


def card_of(device: str) -> Card | None:
    """The GPU that searches, None where the CPU does. Raises UserError for `cuda` where FAISS sees no GPU."""
    gpus = getattr(faiss, "get_num_gpus", int)()
    if device == "cuda" and not gpus:
        raise UserError(
            "device is cuda, but faiss sees no GPU; use --device cpu, or install the gpu extra: "
            "pip uninstall faiss-cpu; pip install 'citemark[gpu]'"
        )
    if device == "cpu" or not gpus:
        return None
    import torch

    # Where torch sees no GPU, FAISS will say when its memory is full.
    free = torch.cuda.mem_get_info(0)[0] if torch.cuda.is_available() else sys.maxsize
    resources = python.StandardGpuResources()

    def flat(dimension: int) -> Any:
        config = python.GpuIndexFlatConfig()
        config.useFloat16 = True
        return python.GpuIndexFlatIP(resources, dimension, config)

    def coded(dimension: int, lists: int, parts: int) -> Any:
        config = python.GpuIndexIVFPQConfig()
        config.useFloat16LookupTables = True  # of 96 bytes a code the tables fit a block's memory only so
        config.indicesOptions = python.INDICES_32_BIT
        return python.GpuIndexIVFPQ(resources, dimension, lists, parts, 8, faiss.METRIC_INNER_PRODUCT, config)

    return Card(free, flat, coded)


def exactly(exact: VectorIndex, card: Card) -> "ExactOnCard | None":
    """All vectors on the card, None where they do not fit it."""
    fits = card.holds_exact(len(exact), exact.dimension)
    return fitted(lambda: ExactOnCard(exact, card)) if fits else None


def fitted(made: Callable[[], Made]) -> Made | None:
    """What is made on a card, None where its memory is full."""
    try:
        return made()
    except RuntimeError as error:
        if "alloc fail" not in str(error):
            raise
        return None


class ExactOnCard(OverExact):
    """All vectors as 16-bit floats on a card: a VectorSource, with the CPU's scores within float error."""

    def __init__(self, exact: VectorIndex, card: Card) -> None:
        super().__init__(exact)
        self._index = _copied(exact, card, None)

        @lru_cache(GATHERED)
        def gathered(keep: Allowed) -> Any:  # has no reference to self: it is freed with its owner
            return fitted(lambda: _copied(exact, card, keep))

        self._gathered = gathered
        self._one = threading.Lock()  # search at a time, since FAISS's resources serve one

    def search(self, queries: Vectors, k: int, keep: Allowed | None = None) -> tuple[Vectors, Rows]:
        """See VectorIndex. Selected rows are an index of their own on the card, where there is room."""
        check_queries(queries, self.dimension)
        k = min(k, len(self) if keep is None else len(keep))
        if k <= MOST and (keep is None or len(keep) > FEW):
            with self._one:
                found = self._found(np.ascontiguousarray(queries, np.float32), k, keep)
            if found:
                return found
        return self._exact.search(queries, k, keep)

    def _found(self, queries: Vectors, k: int, keep: Allowed | None) -> tuple[Vectors, Rows] | None:
        index = self._index if keep is None else self._gathered(keep)
        found = None if index is None else fitted(lambda: index.search(queries, k))
        return (found[0], keep.rows[found[1]]) if found and keep is not None else found


def _copied(exact: VectorIndex, card: Card, keep: Allowed | None) -> Any:
    """The rows, or the selected ones, on the card."""
    rows = np.arange(len(exact)) if keep is None else keep.rows
    shards = python.IndexShards(exact.dimension, False, True)  # one after the other, numbered throughout
    for start in range(0, len(rows), SHARD):
        shard = card.flat(exact.dimension)  # one that grew would take its memory twice while it does
        shard.add(exact.stored(rows[start : start + SHARD]))
        shards.add_shard(shard)
    return shards
