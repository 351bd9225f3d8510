"""Shards: the vectors of 2,048 papers in a Parquet file, the unit that a build encodes, keeps and resumes.

A shard's name holds a digest of what went in (encoder, precision, ids and texts) and of what came out, so
that a finished shard is known by its name and a damaged one by its bytes. Its rows are `paper_id` and
`vector` (16-bit floats), in the order of the corpus. Whoever encodes them, on this machine or on others,
calls `encode_shard`, and so leaves the same bytes (docs/cluster.md says on what machines).
"""

import contextlib
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.errors import UserError
from data.files import write_atomically
from data.paper import Paper
from data.table import BATCH, PaperTable
from model.encoder import Encoder, Vectors
from model.text import passage_text

SHARD = 8 * BATCH  # papers: with the default encoder a minute or less, the most that a kill can cost
STEP = 2 * BATCH  # papers that the encoder sorts by length together; it decides the low bits of a vector

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total or 0 where unknown, unit)."""


class Slice(NamedTuple):
    """The rows start to stop (exclusive) of a table of papers, and the key of their shard."""

    start: int
    stop: int
    key: str


def key_of(members: Sequence[Paper], fingerprint: str, precision: str) -> str:
    """The digest of all that decides a shard: the encoder, how it computes, the papers' ids and texts."""
    key = hashlib.sha256(f"{fingerprint}\0{precision}\0".encode())
    for paper in members:
        key.update(f"{paper.paper_id}\0{passage_text(paper)}\0".encode())
    return key.hexdigest()[:24]


def encode_shard(
    members: Sequence[Paper], encoder: Encoder, told: Callable[[int], None] = lambda papers: None
) -> bytes:
    """The Parquet file of the papers' vectors; `told` hears before each step how many papers are done."""
    blocks = []
    for step in range(0, len(members), STEP):
        told(step)
        blocks.append(encoder.encode_papers(members[step : step + STEP]).astype(np.float16))
    return packed([paper.paper_id for paper in members], np.concatenate(blocks))


def packed(ids: Sequence[str], vectors: NDArray[np.float16]) -> bytes:
    """The Parquet file of vectors, shape (len(ids), dimension), and their ids."""
    rows = pa.table(
        [
            pa.array(ids, pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        ],
        names=["paper_id", "vector"],
    )
    content = pa.BufferOutputStream()
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(rows, content, **plain, write_page_checksum=True)
    return bytes(content.getvalue())


class Folder:
    """Where shards lie: a folder, or a URL of any file system that fsspec knows (`s3://bucket/shards`).

    It is made if it is not there, unless `make` is false: a worker of a cluster that has to make its
    folder does not see the one where the build looks. Raises UserError for a place that cannot be used.
    """

    def __init__(self, url: str, make: bool = True) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"--shards {url}: {error}") from error
        self.url: str = self._files.unstrip_protocol(self._root)
        self._is_local = "file" in self._files.protocol
        if self._is_local and not make and not Path(self._root).is_dir():
            raise self._unseen(self.url)
        with self._reached():
            self._files.makedirs(self._root, exist_ok=True)

    def finished(self) -> dict[str, str]:
        """The names of the shards that are here, by their keys."""
        names: list[str] = []
        with self._reached(), contextlib.suppress(FileNotFoundError):  # a bucket has no empty folders
            self._files.invalidate_cache()
            names = [Path(path).name for path in self._files.ls(self._root, detail=False)]
        return {name.partition("-")[0]: name for name in names if name.endswith(".parquet")}

    def is_whole(self, name: str) -> bool:
        """Whether the shard's bytes are those that were written; a damaged one is removed."""
        if _digest_in(name) == _digest(self._content(name)):
            return True
        with self._reached():
            self._files.rm_file(f"{self._root}/{name}")
        return False

    def vectors(self, name: str) -> Vectors:
        """The vectors of a shard, shape (papers, dimension).

        Raises UserError for a shard that is damaged or missing.
        """
        content = self._content(name)
        if _digest_in(name) != _digest(content):
            raise UserError(f"{self.url}/{name} is damaged; run the same command again to encode it anew")
        column = pq.read_table(pa.BufferReader(content), columns=["vector"])["vector"].combine_chunks()
        flat = column.flatten().to_numpy()
        return np.ascontiguousarray(flat.reshape(len(column), column.type.list_size), np.float32)

    def write(self, key: str, content: bytes) -> str:
        """Keep a shard; its name. A crash leaves the whole of it or nothing."""
        name = f"{key}-{_digest(content)}.parquet"
        path = f"{self._root}/{name}"
        if self._is_local:
            write_atomically(Path(path), content)
            return name
        with self._reached():
            self._files.pipe_file(path, content)
        return name

    def _content(self, name: str) -> bytes:
        try:
            with self._reached():
                return bytes(self._files.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            raise self._unseen(f"{self.url}/{name}") from None

    def _unseen(self, path: str) -> UserError:
        return UserError(
            f"{path} is not on {socket.gethostname()}; give --shards a place that every machine sees"
        )

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Tells what a remote store has against us, whose libraries raise whatever they like, in one line."""
        try:
            yield
        except Exception as error:
            if self._is_local or isinstance(error, FileNotFoundError):
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"--shards {self.url}: the store refuses ({reason})") from error


class Engine(Protocol):
    """What encodes the shards that are missing: `Local` in this process, or indexer.ray_engine's cluster."""

    def precision(self, encoder: Encoder) -> str:
        """How it computes, such as `bf16 on cpu`: another way gives vectors of other low bits."""

    def encode(
        self,
        papers: PaperTable,
        missing: Sequence[Slice],
        encoder: Encoder,
        folder: Folder,
        told: Callable[[int], None],
    ) -> Iterator[tuple[Slice, str]]:
        """Write every missing shard; the slice and the name of each once it is there, in any order.

        `told` may hear how many papers of the shard at work are done.
        """


class Local:
    """Encodes in this process."""

    def precision(self, encoder: Encoder) -> str:
        return f"{encoder.precision} on {encoder.device}"

    def encode(
        self,
        papers: PaperTable,
        missing: Sequence[Slice],
        encoder: Encoder,
        folder: Folder,
        told: Callable[[int], None],
    ) -> Iterator[tuple[Slice, str]]:
        for shard in missing:
            members = papers.slice(shard.start, shard.stop)
            yield shard, folder.write(shard.key, encode_shard(members, encoder, told))


def encode_missing(
    papers: PaperTable, encoder: Encoder, engine: Engine, folder: Folder, size: int, progress: Progress
) -> list[str]:
    """The names of the shards of all papers, in their order; those in the folder are not encoded again."""
    slices = list(_slices(papers, size, encoder.fingerprint, engine.precision(encoder)))
    there = folder.finished()
    names = {s.key: there[s.key] for s in slices if s.key in there and folder.is_whole(there[s.key])}
    missing = [s for s in slices if s.key not in names]
    finished = len(papers) - sum(s.stop - s.start for s in missing)

    def told(more: int) -> None:
        progress("encoding", finished + more, len(papers), " papers")

    told(0)
    for shard, name in engine.encode(papers, missing, encoder, folder, told):
        names[shard.key] = name
        finished += shard.stop - shard.start
        told(0)
    return [names[s.key] for s in slices]


def _slices(papers: PaperTable, size: int, fingerprint: str, precision: str) -> Iterator[Slice]:
    for start in range(0, len(papers), size):
        members = papers.slice(start, start + size)
        yield Slice(start, start + len(members), key_of(members, fingerprint, precision))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _digest_in(name: str) -> str:
    return name.partition("-")[2].removesuffix(".parquet")
