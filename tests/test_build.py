"""Builds that are killed, resumed, repeated and refused."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Maker, write_corpus

import indexer.build
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer.build import build, check
from indexer.settings import Settings
from indexer.snapshot import Snapshot
from indexer.store import Store
from model.encoder import Encoder, Vectors

SHARD = 64
# Builds with small shards, says what it has done and then waits for the signal.
SLOW_BUILD = """
import sys, time
from pathlib import Path
from indexer.build import build
from model.encoder import Encoder

source, root, folder, stop, count, shard = sys.argv[1:]

def progress(stage, done, total, unit):
    if stage == stop and done >= int(count):
        print(stage, done, flush=True)
        time.sleep(600)

build(source, Path(root), Encoder(folder, "cpu", "fp32"), progress=progress, shard=int(shard))
"""


def files(root: Path) -> dict[str, bytes]:
    """The content of the newest generation, its manifest aside."""
    generation = Store(root).open()
    return {name: (generation.path / name).read_bytes() for name in generation.manifest.files}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the papers that were encoded, in order."""
    ids: list[str] = []
    real = Encoder.encode_papers

    def noted(self: Encoder, papers: Sequence[Paper]) -> Vectors:
        ids.extend(paper.paper_id for paper in papers)
        return real(self, papers)

    monkeypatch.setattr(Encoder, "encode_papers", noted)
    return ids


Start = Callable[..., "subprocess.Popen[str]"]


def kill_at(start: Start, stage: str, count: int, source: Path, root: Path, model: Path) -> None:
    """Kill a build as it reports `count` of a stage done."""
    child = start("-c", SLOW_BUILD, source, root, model, stage, count, SHARD)
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line.startswith(stage), child.communicate(timeout=30)[1]
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("stage", "count", "left"),
    [("reading", 0, 300), ("encoding", 192, 108), ("vectors", 1, 0), ("words", 128, 0)],
)
def test_a_build_that_was_killed_goes_on_and_ends_as_an_unbroken_one(
    stage: str,
    count: int,
    left: int,
    corpus_file: Path,
    tiny_folder: Path,
    tiny: Encoder,
    tmp_path: Path,
    start: Start,
    encoded: list[str],
) -> None:
    kill_at(start, stage, count, corpus_file, tmp_path / "killed", tiny_folder)
    with pytest.raises(UserError, match="no index at"):
        Store(tmp_path / "killed").open()
    _, reading = build(str(corpus_file), tmp_path / "killed", tiny, shard=SHARD)
    assert len(encoded) == left
    assert reading.read == reading.accepted == 300
    build(str(corpus_file), tmp_path / "whole", tiny, shard=SHARD)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def broken(source: Path, root: Path, encoder: Encoder, after: int = 128) -> None:
    """A build that is interrupted after so many papers."""

    def progress(stage: str, done: int, total: int, unit: str) -> None:
        if stage == "encoding" and done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(str(source), root, encoder, progress=progress, shard=SHARD)


def test_an_interrupted_build_keeps_its_papers_and_shards(
    corpus_file: Path, tiny: Encoder, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(corpus_file, tmp_path / "index", tiny)
    encoded.clear()
    monkeypatch.setattr(indexer.build.corpus, "write", None)  # reading again would fail
    build(str(corpus_file), tmp_path / "index", tiny, shard=SHARD)
    assert len(encoded) == 300 - 128


def test_a_corpus_with_rejects_is_resumed_with_its_counts(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path, encoded: list[str]
) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", [*papers, {"no": "title"}, papers[0]])
    broken(source, tmp_path / "index", tiny, after=SHARD)
    generation, reading = build(str(source), tmp_path / "index", tiny, shard=SHARD)
    assert (reading.read, reading.accepted, reading.rejected, reading.duplicates) == (302, 300, 1, 1)
    assert reading.rejects == ["line 301: no title"]
    assert generation.manifest.reading["reasons"] == {"no title": 1}


def test_a_changed_source_is_read_again_and_only_its_changes_encoded(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path, encoded: list[str]
) -> None:
    source = write_corpus(tmp_path / "corpus.jsonl", papers)
    broken(source, tmp_path / "index", tiny, after=256)
    changed = [*papers[:70], papers[70] | {"title": "A wholly new title"}, *papers[71:]]
    write_corpus(source, changed)
    encoded.clear()
    build(str(source), tmp_path / "index", tiny, shard=SHARD)
    build(str(source), tmp_path / "whole", tiny, shard=SHARD)
    assert files(tmp_path / "index") == files(tmp_path / "whole")
    assert (
        PaperTable(Store(tmp_path / "index").open().path / "papers.arrow")[70].title == "A wholly new title"
    )
    again = len(encoded) - 300  # the unbroken build encodes all
    assert again == SHARD + 44  # of four shards the changed one, and the last, which was not reached


def test_another_filter_is_not_resumed_from_the_papers_of_the_first(
    corpus_file: Path, tiny: Encoder, tmp_path: Path
) -> None:
    broken(corpus_file, tmp_path / "index", tiny)
    generation, reading = build(str(corpus_file), tmp_path / "index", tiny, Filter(("cs.CV",), since=2010))
    assert generation.manifest.papers == reading.accepted == 15
    kept = {"categories": ("cs.CV",), "since": 2010, "until": None, "authors": ()}
    assert generation.manifest.kept == kept
    assert reading.filtered == 285


def test_the_shards_of_another_encoder_are_not_taken(
    corpus_file: Path, tiny: Encoder, make_model: Maker, tmp_path: Path, encoded: list[str]
) -> None:
    broken(corpus_file, tmp_path / "index", tiny, after=300)
    other = Encoder(str(make_model("bert", 32, seed=1)), "cpu", "fp32")
    assert other.fingerprint != tiny.fingerprint
    encoded.clear()
    build(str(corpus_file), tmp_path / "index", other, shard=SHARD)
    assert len(encoded) == 300
    build(str(corpus_file), tmp_path / "whole", other, shard=SHARD)
    assert files(tmp_path / "index") == files(tmp_path / "whole")


def test_a_damaged_shard_is_encoded_again(
    corpus_file: Path, tiny: Encoder, tmp_path: Path, encoded: list[str]
) -> None:
    broken(corpus_file, tmp_path / "index", tiny, after=300)
    shards = sorted((tmp_path / "index" / "staging" / "shards").glob("*.parquet"))
    harmed = bytearray(shards[0].read_bytes())
    harmed[-1] ^= 1
    shards[0].write_bytes(harmed)
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    encoded.clear()
    build(str(corpus_file), tmp_path / "index", tiny, shard=SHARD)
    assert len(encoded) in (2 * SHARD, SHARD + 44)  # the last shard has 44 papers
    build(str(corpus_file), tmp_path / "whole", tiny, shard=SHARD)
    assert files(tmp_path / "index") == files(tmp_path / "whole")


def test_the_vectors_are_the_encoder_s_in_the_order_of_the_corpus(
    corpus_file: Path, tiny: Encoder, tmp_path: Path
) -> None:
    generation, _ = build(str(corpus_file), tmp_path / "index", tiny, shard=SHARD)
    snapshot = Snapshot(generation, Settings(device="cpu"))
    papers = list(snapshot.papers)
    assert [p.paper_id for p in papers[:2]] == ["translation-00", "translation-01"]
    for row in (0, 63, 64, 299):
        own = tiny.encode_papers([papers[row]])[0]
        assert snapshot.vectors.score(own, [row])[0] == pytest.approx(1, abs=2e-3)


def test_the_manifest_tells_what_built_the_index(small_corpus: Path, tiny: Encoder, tmp_path: Path) -> None:
    manifest = build(str(small_corpus), tmp_path / "index", tiny)[0].manifest
    assert (manifest.papers, manifest.dimension) == (30, 32)
    assert (manifest.encoder, manifest.encoder_fingerprint) == (tiny.name, tiny.fingerprint)
    assert manifest.source == str(small_corpus)
    assert manifest.reading["read"] == 30


def test_a_source_named_from_here_is_recorded_for_everywhere(
    small_corpus: Path, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_corpus.parent)
    generation, _ = build(small_corpus.name, tmp_path / "index", tiny)
    assert generation.manifest.source == str(small_corpus)


def test_progress_counts_up_to_the_whole(small_corpus: Path, tiny: Encoder, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    build(
        str(small_corpus),
        tmp_path / "index",
        tiny,
        progress=lambda stage, done, total, _: seen.setdefault(stage, []).append((done, total)),
        shard=8,
    )
    assert list(seen) == ["reading", "encoding", "vectors", "words"]
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files, as Linux does it")
@pytest.mark.parametrize("limit", [2_000, 20_000])  # bytes: the papers do not fit, the postings do not fit
def test_a_disk_that_fills_up_is_one_line_and_the_work_is_kept(
    limit: int, corpus_file: Path, tiny: Encoder, tmp_path: Path
) -> None:
    with (
        limited(limit),
        pytest.raises(UserError, match=r"cannot be written.*finished shards are kept") as refused,
    ):
        build(str(corpus_file), tmp_path / "index", tiny, shard=SHARD)
    assert "\n" not in str(refused.value)
    assert Store(tmp_path / "index").current() is None
    build(str(corpus_file), tmp_path / "index", tiny, shard=SHARD)
    build(str(corpus_file), tmp_path / "whole", tiny, shard=SHARD)
    assert files(tmp_path / "index") == files(tmp_path / "whole")


class limited:  # noqa: N801 - used as a statement
    """Files of this process may have so many bytes: a full disk, as far as the writer can tell."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        import resource

        self.old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.old[1]))

    def __exit__(self, *_: object) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, self.old)


def test_check_refuses_a_missing_source_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        check(str(tmp_path / "none.jsonl"), tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_check_refuses_a_folder_that_cannot_be_written(small_corpus: Path) -> None:
    with pytest.raises(UserError, match="cannot be written here"):
        check(str(small_corpus), small_corpus / "index")


def test_check_passes_what_can_be_built(small_corpus: Path, tmp_path: Path) -> None:
    check(str(small_corpus), tmp_path / "index")
    check("starter", tmp_path / "index")


@pytest.mark.parametrize(("kind", "dimension"), [("bert", 768), ("roberta", 1024)])
def test_other_architectures_and_sizes_build_and_search(
    kind: str, dimension: int, small_corpus: Path, make_model: Maker, tmp_path: Path
) -> None:
    from data.contexts import Context
    from indexer.search import Searcher
    from indexer.settings import Settings

    folder = make_model(kind, dimension)
    generation, _ = build(str(small_corpus), tmp_path / "index", Encoder(str(folder), "cpu"))
    assert generation.manifest.dimension == dimension
    searcher = Searcher(Settings(tmp_path / "index", "cpu"))  # finds its encoder by the manifest
    paper = searcher.snapshot.papers[4]
    for ranking in ("dense", "hybrid", "bm25"):
        hits = searcher.search([Context(f"{paper.title}. {paper.abstract}")], 3, ranking)[0]
        assert hits[0].paper == paper
    vectors = np.stack([searcher.snapshot.vectors.score(np.eye(dimension, dtype=np.float32)[0], range(30))])
    assert np.isfinite(vectors).all()
