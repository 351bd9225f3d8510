"""Papers on disk: one Arrow IPC file, compressed in small batches so that any row is near.

The file is memory-mapped: opening it costs its footer, and reading k papers decompresses at most k
batches of BATCH rows. Every batch but the last is full, which makes a row's place a division.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.paper import SCHEMA, Paper, from_rows, to_batch

BATCH = 256
_BEHIND = 3  # times that the writer's thread may have to catch up
_THREADS = False  # a batch is too small to share: handing it round takes longer than half its decompression
_WINDOW = 256  # batches that `column` puts together


class PaperWriter:
    """Writes papers in order; a context manager. The file is whole only after a clean exit.

    A thread compresses and writes while the caller makes the next papers.
    """

    def __init__(self, path: Path) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_file(str(path), SCHEMA, options=options)
        self._thread = ThreadPoolExecutor(1, "papers")
        self._writing: deque[Future[None]] = deque()
        self._papers: list[Paper] = []
        self._pending: list[pa.RecordBatch] = []
        self.count = 0

    def add(self, paper: Paper) -> None:
        """Append one paper."""
        self._papers.append(paper)
        self.count += 1
        if len(self._papers) == BATCH:
            self._settle()
            self._flush(BATCH)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows of SCHEMA."""
        self._settle()
        self.count += len(batch)
        self._pending.append(batch)
        rows = sum(map(len, self._pending))
        self._flush(rows - rows % BATCH)

    def _settle(self) -> None:
        """Papers that were added become rows."""
        papers, self._papers = self._papers, []
        if papers:
            self._pending.append(to_batch(papers))

    def _flush(self, rows: int) -> None:
        """Hand the first of the pending rows to the thread, which may be a few such hands behind."""
        if not rows:
            return
        pending = pa.Table.from_batches(self._pending)
        self._pending = pending.slice(rows).to_batches()
        full = pa.Table.from_batches([_alone(pending.slice(n, BATCH)) for n in range(0, rows, BATCH)])
        # One call for all of them: the thread asks for the interpreter but once.
        self._writing.append(self._thread.submit(self._writer.write_table, full, BATCH))
        while len(self._writing) > _BEHIND:
            self._writing.popleft().result()

    def __enter__(self) -> "PaperWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._settle()
                self._flush(sum(map(len, self._pending)))
                for writing in self._writing:
                    writing.result()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._writer.close()


def _alone(rows: pa.Table) -> pa.RecordBatch:
    """A copy with no other rows around it, some of whose bytes Arrow would write along to fill a line of 64.

    So the bytes of a file are those of its rows, whatever the batches that they came in.
    """
    return pa.RecordBatch.from_arrays([pa.concat_arrays(c.chunks) for c in rows.columns], schema=SCHEMA)


def write_rows(path: Path, old: "PaperTable", new: "PaperTable", origin: NDArray[np.int64]) -> None:
    """Write a table whose rows are `origin`: row r of `old`, or from len(old) on row r - len(old) of `new`.

    The rows of `old` must be in their order. They are copied as columns, in bounded memory.
    """
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(path), SCHEMA, options=options) as writer:
        for start in range(0, len(origin), BATCH * _WINDOW):
            part = origin[start : start + BATCH * _WINDOW]
            kept = part[part < len(old)]
            first = int(kept[0]) // BATCH if len(kept) else 0
            batches = [*islice(old.batches(first), int(kept[-1]) // BATCH - first + 1 if len(kept) else 0)]
            span = sum(map(len, batches))
            added = to_batch(new.take((part[part >= len(old)] - len(old)).tolist()))
            place = part - first * BATCH
            place[part >= len(old)] = span + np.arange(len(added))
            rows = pa.Table.from_batches([*batches, added], SCHEMA).combine_chunks().take(pa.array(place))
            for batch in rows.combine_chunks().to_batches(max_chunksize=BATCH):
                writer.write_batch(batch)


class PaperTable(Sequence[Paper]):
    """A file of PaperWriter, read in place: `table[3]`, `table.take([5, 2])`, iteration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pa.memory_map(str(path))
        self._reader = pa.ipc.open_file(self._file, options=pa.ipc.IpcReadOptions(use_threads=_THREADS))
        batches = self._reader.num_record_batches
        last = self._reader.get_batch(batches - 1).num_rows if batches else 0
        self._length = BATCH * (batches - 1) + last if batches else 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Paper:  # type: ignore[override]
        return self.take([row])[0]

    def __iter__(self) -> Iterator[Paper]:
        for batch in self.batches():
            yield from from_rows(batch)

    def batches(self, start: int = 0) -> Iterator[pa.RecordBatch]:
        """The record batches in order, from batch number `start`."""
        for number in range(start, self._reader.num_record_batches):
            yield self._reader.get_batch(number)

    def slice(self, start: int, stop: int) -> list[Paper]:
        """The papers of rows start to stop (exclusive)."""
        first, skipped = divmod(start, BATCH)
        batches = islice(self.batches(first), max(0, -(-stop // BATCH) - first))
        papers = [paper for batch in batches for paper in from_rows(batch)]
        return papers[skipped : skipped + max(0, stop - start)]

    def take(self, rows: Sequence[int]) -> list[Paper]:
        """The papers of these rows, in the order given. Raises IndexError outside the table."""
        wrong = next((row for row in rows if not 0 <= row < self._length), None)
        if wrong is not None:
            raise IndexError(f"row {wrong} of a table of {self._length} papers")
        papers: dict[int, Paper] = {}
        for number, members in groupby(sorted(set(rows)), key=lambda row: row // BATCH):
            batch = self._reader.get_batch(number)
            for row in members:
                papers[row] = from_rows(batch.slice(row % BATCH, 1))[0]
        return [papers[row] for row in rows]

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column, without reading the others, in pieces of some ten thousand rows."""
        fields = [SCHEMA.get_field_index(name)]
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=_THREADS)
        reader = pa.ipc.open_file(self._file, options=options)
        for start in range(0, reader.num_record_batches, _WINDOW):
            window = range(start, min(start + _WINDOW, reader.num_record_batches))
            yield pa.concat_arrays([reader.get_batch(number)[name] for number in window])

    def rows_of(self, paper_ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, -1 for one that the table does not have; one pass for all of them."""
        found = pc.index_in(pa.array(paper_ids, pa.string()), value_set=self._ids)
        return np.asarray(found.fill_null(-1), np.int64)

    def ids(self) -> list[str]:
        """The paper_id of every row."""
        ids: list[str] = self._ids.to_pylist()
        return ids

    def find(self, paper_id: str) -> int | None:
        """The row of an id, or None. It scans a column of all ids, kept from the first call on."""
        row = pc.index(self._ids, value=paper_id).as_py()
        return None if row < 0 else int(row)

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        return pa.chunked_array(self.column("paper_id"), pa.string())
