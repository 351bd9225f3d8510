"""Shards: their keys, their bytes, and the folders they lie in."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import corpus
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer.shards import Folder, Local, encode_missing, encode_shard, key_of
from model.encoder import Encoder

PAPERS = [Paper(f"p{i}", f"Title {i}", "An abstract of some words. " * (i % 4)) for i in range(40)]


@pytest.fixture(scope="module")
def table(corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> PaperTable:
    path = tmp_path_factory.mktemp("table") / "papers.arrow"
    corpus.write(str(corpus_file), path, Filter())
    return PaperTable(path)


@pytest.fixture
def remote() -> Iterator[str]:
    """A folder that is no local one: a file system in this process's memory."""
    import fsspec

    yield "memory://shards/of/a/build"
    fsspec.filesystem("memory").store.clear()


def silent(stage: str, done: int, total: int, unit: str) -> None:
    pass


def test_a_shard_is_a_parquet_file_of_ids_and_half_precision_vectors(tiny: Encoder, tmp_path: Path) -> None:
    (tmp_path / "shard.parquet").write_bytes(encode_shard(PAPERS, tiny))
    rows = pq.read_table(tmp_path / "shard.parquet", page_checksum_verification=True)
    assert rows.schema.names == ["paper_id", "vector"]
    assert rows.schema.field("vector").type == pa.list_(pa.float16(), 32)
    assert rows["paper_id"].to_pylist() == [paper.paper_id for paper in PAPERS]
    expected = tiny.encode_papers(PAPERS).astype(np.float16)
    assert (np.array(rows["vector"].to_pylist(), np.float16) == expected).all()


def test_the_same_papers_give_the_same_bytes(tiny: Encoder) -> None:
    assert encode_shard(PAPERS, tiny) == encode_shard(PAPERS, tiny)


def test_progress_is_told_before_each_step(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.shards.STEP", 16)
    steps: list[int] = []
    encode_shard(PAPERS, tiny, steps.append)
    assert steps == [0, 16, 32]


@pytest.mark.parametrize(
    ("papers", "fingerprint", "precision"),
    [
        (PAPERS[:-1], "f", "fp32 on cpu"),
        ([*PAPERS[:-1], Paper("p39", "Another title")], "f", "fp32 on cpu"),
        ([*PAPERS[:-1], Paper("q", PAPERS[-1].title, PAPERS[-1].abstract)], "f", "fp32 on cpu"),
        (PAPERS[::-1], "f", "fp32 on cpu"),
        (PAPERS, "another", "fp32 on cpu"),
        (PAPERS, "f", "bf16 on cpu"),
        (PAPERS, "f", "fp32 on cuda"),
    ],
)
def test_a_key_tells_apart_what_gives_other_bytes(
    papers: Sequence[Paper], fingerprint: str, precision: str
) -> None:
    assert key_of(papers, fingerprint, precision) != key_of(PAPERS, "f", "fp32 on cpu")


def test_authors_and_years_do_not_change_a_key() -> None:
    dated = [Paper(p.paper_id, p.title, p.abstract, ("Ada Lovelace",), 1843) for p in PAPERS]
    assert key_of(dated, "f", "fp32 on cpu") == key_of(PAPERS, "f", "fp32 on cpu")


def test_what_was_written_is_found_whole_and_read_back(tiny: Encoder, remote: str, tmp_path: Path) -> None:
    content = encode_shard(PAPERS, tiny)
    for url in (str(tmp_path / "new" / "folder"), (tmp_path / "other").as_uri(), remote):
        folder = Folder(url)
        assert folder.finished() == {}
        name = folder.write("0a1b", content)
        assert name == f"0a1b-{hashlib.sha256(content).hexdigest()[:24]}.parquet"
        assert Folder(url).finished() == {"0a1b": name}
        assert folder.is_whole(name)
        vectors = folder.vectors(name)
        assert vectors.dtype == np.float32
        assert (vectors == tiny.encode_papers(PAPERS).astype(np.float16)).all()


def test_a_damaged_shard_is_refused_and_removed(tiny: Encoder, tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    content = bytearray(encode_shard(PAPERS, tiny))
    name = folder.write("0a1b", bytes(content))
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"0a1b-.*is damaged; run the same command again"):
        folder.vectors(name)
    assert not folder.is_whole(name)
    assert folder.finished() == {}


def test_a_file_cut_short_by_a_crash_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "0a1b-77.parquet.half").write_bytes(b"PAR1")
    assert Folder(str(tmp_path)).finished() == {}


def test_a_folder_that_a_worker_would_have_to_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not on .*; give --shards a place that every"):
        Folder(str(tmp_path / "nowhere"), make=False)
    assert not (tmp_path / "nowhere").exists()


def test_a_shard_that_is_not_there_is_one_line(tmp_path: Path, remote: str) -> None:
    for url in (str(tmp_path), remote):
        with pytest.raises(UserError, match=r"0-0.parquet is not on .*; give --shards a place"):
            Folder(url).vectors("0-0.parquet")


@pytest.mark.parametrize("url", ["nonsense://bucket/shards", "hdfs-of-old://x"])
def test_an_unknown_protocol_is_one_line(url: str) -> None:
    with pytest.raises(UserError, match=f"--shards {url}: ") as refused:
        Folder(url)
    assert "\n" not in str(refused.value)


def test_finished_shards_are_not_encoded_again(table: PaperTable, tiny: Encoder, remote: str) -> None:
    encoded: list[int] = []

    class Counting(Local):
        def encode(self, papers, missing, encoder, folder, told):  # type: ignore[no-untyped-def]
            encoded.extend(s.start for s in missing)
            return super().encode(papers, missing, encoder, folder, told)

    folder = Folder(remote)
    first = encode_missing(table, tiny, Counting(), folder, 64, silent)
    assert encoded == [0, 64, 128, 192, 256]
    assert sorted(folder.finished().values()) == sorted(first)
    assert encode_missing(table, tiny, Counting(), folder, 64, silent) == first
    assert len(encoded) == 5
    assert encode_missing(table, tiny, Counting(), folder, 128, silent)[0] not in first


DIGESTS = """
import hashlib, sys, torch
from data.paper import Paper
from indexer.shards import encode_shard
from model.encoder import Encoder
papers = [Paper(f"p{i}", f"Title {i}", "An abstract of some words. " * (i % 4)) for i in range(40)]
folder, precision, *numbers = sys.argv[1:]
encoder = Encoder(folder, "cpu", precision)
for number in map(int, numbers):
    torch.set_num_threads(number)
    print(hashlib.sha256(encode_shard(papers, encoder)).hexdigest())
    print(hashlib.sha256(encoder.encode_papers(papers).tobytes()).hexdigest())
"""
"""Two digests for each number of threads: of the shard, and of the vectors before they are rounded."""


@pytest.fixture
def two_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_processes_give_the_same_bytes(
    precision: str, tiny_folder: Path, process: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    """What lets alike machines of a cluster share a build: nothing of a process gets into a shard."""
    encoder = Encoder(str(tiny_folder), "cpu", precision)
    own = [encode_shard(PAPERS, encoder), encoder.encode_papers(PAPERS).tobytes()]
    done = process("-c", DIGESTS, tiny_folder, precision, 2, 2, PYTHONHASHSEED="7", FILL="x" * 4321)
    assert done.stdout.split() == [hashlib.sha256(raw).hexdigest() for raw in own] * 2, done.stderr


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_give_the_same_bytes(
    precision: str, tiny_folder: Path, process: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    """Nothing of ours depends on the number of threads.

    MKL may: of heads as small as the tiny model's, some of its fp32 products depend on where their result
    lies, and a second thread's lies elsewhere. So MKL is told to multiply all alike; bf16 is not its work.
    """
    settings = {"MKL_CBWR": "COMPATIBLE"} if precision == "fp32" else {}
    done = process("-c", DIGESTS, tiny_folder, precision, 1, 2, **settings)
    one, two = done.stdout.split()[:2], done.stdout.split()[2:]
    assert one, done.stderr
    assert one == two


def test_another_number_of_threads_moves_a_vector_by_its_last_bits_at_most(tiny_folder: Path) -> None:
    import torch

    before = torch.get_num_threads()
    encoder = Encoder(str(tiny_folder), "cpu", "fp32")
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(encoder.encode_papers(PAPERS))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
