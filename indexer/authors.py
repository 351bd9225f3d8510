"""Who wrote the papers of an index, and how often what they wrote is cited.

A paper that no known citation cites is not like every other such paper: some are by authors whose other
papers are cited often. That is their *renown*, and all that known citations say of such a paper itself.

    authors.arrow   for each paper, in the order of the table, the 32-bit digests of its authors' names

Names are compared as they are written, without regard to case. Two names of one digest are as rare as one
in four billion pairs, and cost a wrong number in a ranking.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.table import PaperTable
from indexer.vectors import Rows
from model.encoder import Vectors

FILE = "authors.arrow"
Digests = NDArray[np.uint32]
_SCHEMA = pa.schema([("authors", pa.list_(pa.uint32()))])


def write(folder: Path, papers: PaperTable) -> None:
    """Write the file of these papers into the folder of a generation."""
    sizes, digests = [np.zeros(1, np.int32)], [np.zeros(0, np.uint32)]
    for lists in papers.column("authors"):
        sizes.append(lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int32))
        names = lists.flatten().dictionary_encode()  # a name is digested once
        digests.append(digested(names.dictionary.to_pylist())[names.indices.to_numpy()])
    starts = np.cumsum(np.concatenate(sizes), dtype=np.int32)
    column = pa.ListArray.from_arrays(pa.array(starts), pa.array(np.concatenate(digests)))
    with pa.ipc.new_file(str(folder / FILE), _SCHEMA) as writer:
        writer.write_batch(pa.record_batch([column], schema=_SCHEMA))


def digested(names: Sequence[str]) -> Digests:
    """The digests of names, shape (names,)."""
    return np.array([crc32(name.casefold().encode()) for name in names], np.uint32)


class Authors:
    """The authors of an index's papers, read in place."""

    def __init__(self, folder: Path) -> None:
        column = pa.ipc.open_file(pa.memory_map(str(folder / FILE))).get_batch(0)["authors"]
        self._starts, self._digests = column.offsets.to_numpy(), column.values.to_numpy()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def of(self, rows: Rows) -> tuple[Digests, Rows]:
        """The authors of the papers of these rows, one paper after the other, and whose each is: a place
        in `rows`, ascending."""
        places, sizes = members(self._starts, rows)
        return self._digests[places], np.repeat(np.arange(len(rows)), sizes)


def members(starts: NDArray[np.integer[Any]], lists: Rows) -> tuple[Rows, Rows]:
    """Where the members of these lists lie, list after list, and how many each has, where all lists lie one
    after the other: list n from starts[n] to starts[n + 1]."""
    sizes = starts[lists + 1] - starts[lists]
    places = np.arange(sizes.sum()) + np.repeat(starts[lists] - (np.cumsum(sizes) - sizes), sizes)
    return places, sizes


class Renown:
    """How often the papers of each author are cited.

    `rows` are the papers that are cited and `times` how often each is, both of shape (papers,).
    """

    def __init__(self, authors: Authors, rows: Rows, times: NDArray[np.int64]) -> None:
        self._authors = authors
        self._names, self._times = _summed(authors, rows, times)

    def of(self, rows: Rows, own: NDArray[np.int64], without: Rows) -> Vectors:
        """How often other papers by the authors of these are cited, shape (rows, 4): of the author who is
        cited most, of all of them together, of the first and of the last.

        `own` is how often the papers of the rows are cited themselves, which is not counted. Neither is one
        citation of each of the rows `without`, which may repeat.
        """
        digests, owners = self._authors.of(rows)
        place = np.minimum(np.searchsorted(self._names, digests), max(len(self._names) - 1, 0))
        known = self._names[place] == digests if len(self._names) else np.zeros(len(digests), np.bool_)
        times = self._times
        if len(without):
            names, lost = _summed(self._authors, without, np.ones(len(without), np.int64))
            times = times.copy()
            times[np.searchsorted(self._names, names)] -= lost
        others = np.where(known, times[place] - own[owners], 0) if len(times) else np.zeros(len(digests))
        others = np.maximum(others, 0)
        found = np.zeros((len(rows), 4), np.float32)
        if len(owners):
            written, first = np.unique(owners, return_index=True)
            last = np.append(first[1:], len(owners)) - 1
            each = np.maximum.reduceat(others, first), np.add.reduceat(others, first)
            found[written] = np.stack([*each, others[first], others[last]], axis=1)
        return found


def _summed(authors: Authors, rows: Rows, times: NDArray[np.int64]) -> tuple[Digests, NDArray[np.int64]]:
    """Every author of these papers, ascending, and the sum of the papers' `times`."""
    digests, owners = authors.of(rows)
    pairs = np.unique((owners << 32) | digests)  # a paper may have two authors of one name
    names, place = np.unique((pairs & 0xFFFFFFFF).astype(np.uint32), return_inverse=True)
    return names, np.bincount(place, times[pairs >> 32], len(names)).astype(np.int64)
