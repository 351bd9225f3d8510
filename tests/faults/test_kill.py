"""A build that is killed: readers see the old or the new generation, and the next build goes through.

The production code has no hooks for this: the child that is to die replaces one function of it by one
that kills the process, before or after it does its work for the nth time.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import environment, write_corpus
from proof import Nursery, Proof, tries

from indexer.search import Searcher
from indexer.settings import Settings
from indexer.snapshot import Snapshot
from indexer.store import Store

pytest_plugins = ["proof"]

DYING = """
import importlib, os, signal
from pathlib import Path
from indexer import build, update

source, root, module, names, moment, times = args
build.SHARD = 64
if module:
    *path, name = names.split(".")
    place = importlib.import_module(module)
    for part in path:
        place = getattr(place, part)
    real, count = getattr(place, name), 0

    def dies(*arguments, **named):
        global count
        count += 1
        if count == int(times) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        given = real(*arguments, **named)
        if count == int(times):
            os.kill(os.getpid(), signal.SIGKILL)
        return given

    setattr(place, name, dies)
"""
BUILD = DYING + "build.build(source, Path(root), encoder, shard=64)"
UPDATE = DYING + "update.update(Path(root), update.Change(source, whole=True), encoder, shard=16)"
# where: module, function, before or after its work, the how maniest time; the generation that is served then
STEPS = [
    ("indexer.store", "Store._own", "before", 1, 2),
    ("indexer.store", "Store._own", "after", 1, 2),
    ("data.corpus", "write", "before", 1, 2),
    ("data.table", "PaperWriter._flush", "after", 1, 2),
    ("data.corpus", "write", "after", 1, 2),
    ("data.files", "os.fsync", "before", 1, 2),
    ("indexer.build", "encode_missing", "before", 1, 2),
    ("indexer.shards", "Folder.write", "before", 2, 2),
    ("data.files", "os.fsync", "after", 3, 2),
    ("indexer.shards", "Folder.write", "after", 5, 2),
    ("indexer.build", "_fill", "before", 1, 2),
    ("shutil", "copyfile", "after", 1, 2),
    ("indexer.vectors", "write", "before", 1, 2),
    ("indexer.vectors", "write", "after", 1, 2),
    ("indexer.lexical", "_merge", "before", 1, 2),
    ("indexer.lexical", "_mapped", "after", 2, 2),
    ("indexer.lexical", "write", "after", 1, 2),
    ("indexer.store", "Store.publish", "before", 1, 2),
    ("indexer.store", "Manifest.to_bytes", "before", 1, 2),
    ("indexer.store", "sync", "before", 2, 2),
    ("indexer.store", "sync", "after", 8, 2),
    ("pathlib", "Path.rename", "before", 1, 2),
    ("pathlib", "Path.rename", "after", 1, 3),
    ("pathlib", "Path.rename", "before", 2, 3),
    ("pathlib", "Path.rename", "after", 2, 3),
    ("shutil", "rmtree", "before", 2, 3),
    ("shutil", "rmtree", "after", 2, 3),
    ("indexer.store", "Store.publish", "after", 1, 3),
]
UPDATE_STEPS = [
    ("data.corpus", "write", "after", 1, 2),
    ("indexer.update", "_plan", "after", 1, 2),
    ("indexer.update", "_written", "after", 1, 2),
    ("indexer.shards", "Folder.write", "after", 2, 2),
    ("indexer.update", "_fill", "before", 1, 2),
    ("indexer.lexical", "_merge", "before", 1, 2),
    ("indexer.update", "_fill", "after", 1, 2),
    ("pathlib", "Path.rename", "before", 1, 2),
    ("pathlib", "Path.rename", "after", 1, 3),
    ("shutil", "rmtree", "before", 2, 3),
]
Built = Callable[[], Path]


@pytest.fixture
def built(sketched: Path, tmp_path: Path) -> Built:
    """Makes an index of two generations, so that a build also has one to remove."""

    def make() -> Path:
        root = Path(tmp_path, f"index-{time.monotonic_ns()}")
        shutil.copytree(sketched, root)
        shutil.copytree(root / "generations" / "000001", root / "generations" / "000002")
        return root

    return make


def readable(root: Path, sketch: Any) -> int:
    """The number of the generation that a reader gets, after it has answered from it."""
    searcher = Searcher(Settings(root, "cpu"), sketch)
    paper = searcher.snapshot.papers[3]
    assert searcher.similar(paper.paper_id, 3)
    assert searcher.paper(paper.paper_id) == paper
    searcher.snapshot.load()
    return int(searcher.snapshot.path.name)


def content(root: Path) -> dict[str, bytes]:
    """The files of the newest generation, every byte checked; the manifest has times in it."""
    generation = Store(root).open()
    Snapshot(generation, Settings(root, "cpu")).load()
    return {name: (generation.path / name).read_bytes() for name in generation.manifest.files}


@pytest.fixture(scope="module")
def unbroken(
    corpus_file: Path, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("unbroken") / "index"
    code, _, err = nursery.run(BUILD, corpus_file, root, "", "", "", 0)
    assert code == 0, err
    return content(root)


CRUCIAL = [step for step in STEPS if step[1] in ("encode_missing", "sync", "Path.rename")]


@pytest.mark.parametrize("steps", tries(CRUCIAL, STEPS))
def test_a_kill_at_any_step_leaves_the_old_or_the_new_generation(
    steps: list[tuple[str, str, str, int, int]],
    corpus_file: Path,
    sketch: Any,
    built: Built,
    nursery: Nursery,
    unbroken: dict[str, bytes],
    proof: Proof,
) -> None:
    for step in steps:
        *where, expected = step
        root = built()
        code, _, err = nursery.run(BUILD, corpus_file, root, *where)
        assert code == -signal.SIGKILL, f"{where}: never came there: {code} {err[-500:]}"
        seen = readable(root, sketch)
        again, _, err = nursery.run(BUILD, corpus_file, root, "", "", "", 0)
        healed = again == 0 and content(root) == unbroken and not (root / "staging").exists()
        proof.check(seen == expected and healed, f"{where}: generation {seen}, then {again} {err[-300:]}")
        shutil.rmtree(root)
    proof.end("crash in a build, at each step", len(steps))


@pytest.mark.parametrize("steps", tries(UPDATE_STEPS[3:9:5], UPDATE_STEPS))
def test_a_kill_in_an_update_leaves_the_old_or_the_new_generation(
    steps: list[tuple[str, str, str, int, int]],
    papers: list[dict[str, Any]],
    sketch: Any,
    built: Built,
    nursery: Nursery,
    tmp_path: Path,
    proof: Proof,
) -> None:
    """Papers go, change and come; the update that follows ends where an unbroken one does."""
    changed = [paper | {"abstract": "Another one."} for paper in papers[10:20]]
    source = write_corpus(tmp_path / "changed.jsonl", [*changed, *papers[20:80]])
    root = built()
    code, _, err = nursery.run(UPDATE, source, root, "", "", "", 0)
    assert code == 0, err
    unbroken = content(root)
    for step in steps:
        *where, expected = step
        root = built()
        code, _, err = nursery.run(UPDATE, source, root, *where)
        assert code == -signal.SIGKILL, f"{where}: never came there: {code} {err[-500:]}"
        seen = readable(root, sketch)
        again, _, err = nursery.run(UPDATE, source, root, "", "", "", 0)
        healed = again == 0 and content(root) == unbroken
        proof.check(seen == expected and healed, f"{where}: generation {seen}, then {again} {err[-300:]}")
    proof.end("crash in an update, at each step", len(steps))


@pytest.mark.parametrize("count", tries(4, 50))
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_generation(
    count: int,
    corpus_file: Path,
    sketch: Any,
    built: Built,
    nursery: Nursery,
    unbroken: dict[str, bytes],
    proof: Proof,
) -> None:
    whole = 0.0
    for _ in range(2):  # the first one also loads what it needs
        root = built()
        began = time.monotonic()
        nursery.run(BUILD, corpus_file, root, "", "", "", 0)
        whole = time.monotonic() - began
    choose = random.Random(11)
    early, generations = 0, Counter[int]()
    while proof.tries < count and early < count:
        root = built()
        child = nursery.start(BUILD, corpus_file, root, "", "", "", 0)
        time.sleep(whole * (proof.tries + choose.random()) / count)
        code, _, err = child.kill()
        seen = readable(root, sketch)
        again, _, err = nursery.run(BUILD, corpus_file, root, "", "", "", 0)
        right = seen in (2, 3) and again == 0 and content(root) == unbroken
        fault = f"{code}, generation {seen}, then {again} {err[-300:]}"
        shutil.rmtree(root)
        if code == -signal.SIGKILL:
            generations[seen] += 1
            proof.check(right, f"kill {proof.tries}: {fault}")
        else:  # it was done before the kill, which is no try
            assert right, fault
            early, whole = early + 1, 0.97 * whole
    proof.note = f"seen then: {dict(generations)}; {early} were done before the kill"
    proof.end("crash in a build, at random", count)


@pytest.mark.faults
def test_the_command_itself_may_be_killed(
    corpus_file: Path, tiny_folder: Path, sketch: Any, built: Built, tmp_path: Path, proof: Proof
) -> None:
    """As above with `indexer build` started by itself, from its first line on."""
    words = ["build", corpus_file, "--encoder", tiny_folder, "--device", "cpu", "--index"]
    command = [sys.executable, "-m", "indexer", *map(str, words)]
    began = time.monotonic()
    subprocess.run([*command, str(built())], env=environment(), check=True, capture_output=True)
    whole = time.monotonic() - began
    for number in range(5):
        root = built()
        with subprocess.Popen([*command, str(root)], env=environment(), stderr=subprocess.DEVNULL) as child:
            time.sleep(whole * (number + 1) / 6)
            child.kill()
        proof.check(readable(root, sketch) in (2, 3), number)
    proof.end("crash of `indexer build`", 5)


def test_everything_is_on_the_disk_before_it_is_published(
    corpus_file: Path, nursery: Nursery, tmp_path: Path, proof: Proof
) -> None:
    """What a kill cannot show and a power cut would: files, then folders, then the name, then its folder."""
    noting = """
import os, pathlib
fsync, rename = os.fsync, pathlib.Path.rename

def flushed(handle):
    print("flushed", os.readlink(f"/proc/self/fd/{handle}"), flush=True)
    fsync(handle)

def renamed(path, target):
    print("renamed", path, target, flush=True)
    return rename(path, target)

os.fsync, pathlib.Path.rename = flushed, renamed
"""
    root = tmp_path / "index"
    code, out, err = nursery.run(noting + BUILD, corpus_file, root, "", "", "", 0)
    assert code == 0, err
    lines = out.splitlines()
    published = next(
        n for n, line in enumerate(lines) if line.startswith("renamed") and "generations" in line
    )
    before, after = set(lines[:published]), set(lines[published:])
    made, staged = root / "generations" / "000001", root / "staging" / "next"
    for path in (made, *made.rglob("*")):
        proof.check(f"flushed {staged / path.relative_to(made)}" in before, path)
    proof.check(f"flushed {root / 'generations'}" in after, "the name itself")
    proof.end("power cut: flushed before it is published", 10)
