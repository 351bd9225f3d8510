"""A large file of JSON lines, read by several processes: rows of papers and rejects, in the file's order.

The pieces of the file fall to the processes by turns. They hand on nothing but rows, which wait in a pipe
until it is their turn. Nobody needs to end them: a pipe that nobody reads any more does, so that a reader
leaves none behind, however it dies. What a process does not deliver, the reader makes itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from data.clean import Rejected
from data.columns import Block
from data.formats import json_of, lines_of, readable
from data.paper import SCHEMA

SHARED = 128 << 20  # bytes of a file from which processes are worth their start, half a second of each
PIECE = 1 << 20  # bytes: some 550 records of arXiv's, whose rows fit into a pipe
_PIPE = 1 << 20  # bytes; Linux gives no more to everyone
PROCESSES = min(os.cpu_count() or 1, 3)  # more would make rows faster than one thread compresses them
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Piece:
    """What became of the lines that begin in one piece of the file."""

    rows: pa.RecordBatch
    lines: int  # blank ones, too
    records: int
    rejects: list[tuple[int, str]]  # the line, where the piece's first is 1, and the reason


def pieces(path: Path) -> Iterator[tuple[int, Piece]]:
    """The pieces of a file in their order, each with the byte that the next one starts with."""
    with readable(path), path.open("rb") as file, ExitStack() as started:
        size = path.stat().st_size
        turns = PROCESSES if size >= SHARED else 0
        made = [started.enter_context(_process(path, size, turn, turns)) for turn in range(turns)]
        made = made or [iter(())]
        for number, start in enumerate(range(0, size, PIECE)):
            stop = min(start + PIECE, size)
            yield stop, next(made[number % len(made)], None) or piece(file, start, stop)


def piece(file: IO[bytes], start: int, stop: int) -> Piece:
    """What becomes of the lines that begin at the bytes from `start` to `stop` (exclusive)."""
    block, numbers, number = Block(), [], 0
    for number, line in enumerate(_lines(file, start, stop), 1):
        if isinstance(line, Rejected):
            numbers.append(number)
            block.add(line)
        elif not line.isspace():
            numbers.append(number)
            block.add(json_of(line))
    rows, rejects = block.finish()
    return Piece(rows, number, len(numbers), [(numbers[record], reason) for record, reason in rejects])


def _lines(file: IO[bytes], start: int, stop: int) -> Iterator[bytes | Rejected]:
    file.seek(max(start - 1, 0))
    # A line begins behind the first line end from the byte before `start` on, if that is in the piece.
    if start == 0 or file.readline(stop - start).endswith(b"\n"):
        yield from lines_of(file, stop - file.tell())


@contextmanager
def _process(path: Path, size: int, turn: int, turns: int) -> Iterator[Iterator[Piece]]:
    """The pieces whose turn it is, as a process of its own makes them: all, or fewer if it fails."""
    arguments = (path.absolute(), size, PIECE, turn, turns)
    try:
        # In a group of its own, the process hears nothing of a Ctrl-C, which is the reader's to answer.
        process = subprocess.Popen(
            [sys.executable, "-m", "data.parallel", *map(str, arguments)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
            pipesize=_PIPE,
        )
    except OSError:  # the machine has no room for it
        yield iter(())
        return
    with process:
        try:
            yield _received(process.stdout)
        finally:
            process.kill()


def _received(stream: IO[bytes] | None) -> Iterator[Piece]:
    try:
        with pa.ipc.open_stream(stream) as reader:
            while True:
                rows, counts = reader.read_next_batch_with_custom_metadata()
                yield Piece(rows, *json.loads(counts["piece"]))
    except (StopIteration, OSError, pa.ArrowException):
        return


def main(path: str, size: int, step: int, turn: int, turns: int) -> None:
    """A process that `pieces` starts: its pieces go to the standard output, as a stream of Arrow's."""
    with open(path, "rb") as file, pa.ipc.new_stream(sys.stdout.buffer, SCHEMA) as writer:  # noqa: PTH123
        for start in range(turn * step, size, turns * step):
            made = piece(file, start, min(start + step, size))
            counts = json.dumps((made.lines, made.records, made.rejects))
            writer.write_batch(made.rows, custom_metadata={"piece": counts})


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
