"""Rebuilds while others read: no failed answer, each from one generation, one writer at a time."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import reader
from conftest import environment, write_corpus
from door_servers import running
from proof import Proof, tries
from sketch import Sketcher

from data.errors import UserError
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import Store
from model.encoder import Encoder

pytest_plugins = ["door_servers", "proof"]

EDITIONS = 3
Start = Callable[..., "subprocess.Popen[str]"]


@dataclass(frozen=True)
class Load:
    """How hard the readers and the writer work."""

    papers: int
    dimension: int
    processes: int
    readers: int  # in each process
    swaps: int
    seconds: float


QUICK = Load(papers=300, dimension=64, processes=2, readers=8, swaps=5, seconds=3)
FULL = Load(papers=40_000, dimension=384, processes=2, readers=32, swaps=20, seconds=60)
# What is freed goes back to the system at once, so that what is counted is what is held.
THRIFTY = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}  # fmt: skip


def edition(papers: list[dict[str, Any]], number: int, count: int) -> list[dict[str, Any]]:
    """The papers with ids and titles that only this edition has, and one with an id of all."""
    rows = [papers[n % len(papers)] for n in range(count)]
    made = [r | {"id": f"{number}-{n}", "title": f"{r['title']} {n} of {number}"} for n, r in enumerate(rows)]
    made[1]["id"] = reader.SAME
    return made


def publish(root: Path, prepared: Path) -> None:
    """Make the generation of another index the newest of this one, as a build does."""
    store, generation = Store(root), Store(prepared).open()
    with store.writing():
        shutil.rmtree(store.next, ignore_errors=True)
        shutil.copytree(generation.path, store.next)
        (store.next / "manifest.json").unlink()
        store.publish(generation.manifest)


@pytest.mark.parametrize("load", tries(QUICK, FULL))
def test_readers_get_whole_answers_while_the_index_is_replaced(
    load: Load, papers: list[dict[str, Any]], tmp_path: Path, proof: Proof
) -> None:
    """Half of the readers follow by themselves, as the page does; half have an owner, as the server's."""
    encoder: Any = Sketcher(dimension=load.dimension)
    known: dict[str, Any] = {"dimension": load.dimension, "editions": {}}
    for number in range(EDITIONS):
        source = write_corpus(tmp_path / f"{number}.jsonl", edition(papers, number, load.papers))
        build(str(source), tmp_path / str(number), encoder)
        searcher = Searcher(Settings(tmp_path / str(number), "cpu"), encoder)
        known["editions"][str(number)] = [reader.answers(searcher, n) for n in range(reader.KINDS)]
    (tmp_path / "expected.json").write_text(json.dumps(known), "utf-8")
    root, little = shutil.copytree(tmp_path / "0", tmp_path / "index"), tmp_path / "little"
    build(str(write_corpus(tmp_path / "little.jsonl", edition(papers, 0, 300))), little, encoder)
    words = [root, tmp_path / "expected.json", load.readers]
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, (reader.__file__, *words, ("follow", "owner")[number % 2], little))],
            env=environment(OMP_NUM_THREADS="1", **THRIFTY),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(load.processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == "ready"
    began = time.monotonic()
    for swap in range(load.swaps):
        publish(root, tmp_path / str((swap + 1) % EDITIONS))
        time.sleep(max(0.0, began + load.seconds * (swap + 1) / load.swaps - time.monotonic()))
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in started]
    for report in reports:
        for _ in range(sum(report["answers"].values())):
            proof.check(True, "")
        for fault in range(report["failed"]):
            proof.check(False, report["faults"][min(fault, 19)])
        assert report["least"] >= 1
        assert len(report["answers"]) >= 2
    peaks = [report["peak"] / report["one"] for report in reports]
    proof.note = (
        f"{load.processes * load.readers} readers, {load.swaps} swaps; an index takes "
        f"{reports[0]['one'] / 1e6:.1f} MB, all of them at most {max(peaks):.2f} times that"
    )
    if load is FULL:  # in a small one the threads of the readers outweigh it
        slow = "a search outlasts the swaps, and with it its generation: this machine is too busy to tell"
        assert all(report["least"] >= 3 * load.swaps for report in reports), slow
        assert max(peaks) <= 2.2, reports
    proof.end("rebuild while serving", load.processes * load.readers)


HOLD = """
import sys
from pathlib import Path
from indexer.store import Store
with Store(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("count", tries(2, 20))
def test_a_second_writer_is_refused_and_a_dead_one_s_lock_is_free(
    count: int,
    sketched: Path,
    small_corpus: Path,
    sketch: Any,
    tmp_path: Path,
    start: Start,
    proof: Proof,
) -> None:
    root = shutil.copytree(sketched, tmp_path / "index")
    for number in range(count):
        holder = start("-c", HOLD, root)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        said = ""
        try:
            build(str(small_corpus), root, sketch)
        except UserError as error:
            said = str(error)
        one_line = said.startswith(f"another process is building {root}; ") and "\n" not in said
        proof.check(one_line, f"a second writer: {said!r}")
        proof.check(Store(root).open().path.name == f"{number + 1:06}", "the second writer changed something")
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate(timeout=60)
        try:
            build(str(small_corpus), root, sketch)
            proof.check(True, "")
        except UserError as error:
            proof.check(False, f"a dead writer: {error}")
    proof.end("second writer, dead writer", 3 * count)


@dataclass(frozen=True)
class Editions:
    """Indexes with papers of their own, and the titles of each one's papers.

    Of an answer only its edition is asked: requests that are encoded together have other low bits, so
    that papers with equal scores change places.
    """

    folders: list[Path]
    titles: list[set[str]]

    def of(self, found: list[str]) -> int | None:
        """The number of the edition that has all of five titles; None for a mixture, or for others."""
        whole = [number for number, known in enumerate(self.titles) if set(found) <= known]
        return whole[0] if len(found) == 5 and len(whole) == 1 else None


SENTENCE = "A gripper [CITE] grasps."


@pytest.fixture(scope="module")
def editions(
    papers: list[dict[str, Any]], tiny: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Editions:
    folder, made = tmp_path_factory.mktemp("editions"), Editions([], [])
    for number in range(EDITIONS):
        source = write_corpus(folder / f"{number}.jsonl", edition(papers, number, 40))
        build(str(source), folder / str(number), tiny)
        made.folders.append(folder / str(number))
        made.titles.append(
            {paper.title for paper in Searcher(Settings(made.folders[-1], "cpu"), tiny).snapshot.papers}
        )
    return made


@contextlib.contextmanager
def swapping(root: Path, editions: Editions, swaps: int, pause: float) -> Iterator[threading.Event]:
    """Replaces the index again and again beside the test; the event says when that is over."""
    done, faults = threading.Event(), []

    def work() -> None:
        try:
            for number in range(swaps):
                publish(root, editions.folders[(number + 1) % EDITIONS])
                time.sleep(pause)
        except Exception as error:
            faults.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work)
    thread.start()
    yield done
    thread.join()
    assert not faults


@pytest.mark.parametrize("swaps", tries(3, 20))
def test_the_http_server_takes_up_new_indexes_without_a_failed_request(
    swaps: int, editions: Editions, tmp_path: Path, proof: Proof
) -> None:
    root = shutil.copytree(editions.folders[0], tmp_path / "index")
    lock, seen = threading.Lock(), Counter[int]()
    with running(tmp_path / "log", "serve", "--index", root, "--device", "cpu", "--port", 0) as (_, url):

        def ask(done: threading.Event) -> None:
            with httpx2.Client(base_url=url, timeout=120) as client:
                while not done.is_set():
                    response = client.post("/search", json={"text": SENTENCE, "k": 5})
                    found = response.json().get("contexts", [{}])[0].get("hits", [])
                    titles = [hit["title"] for hit in found]
                    edition_of = editions.of(titles)
                    with lock:
                        whole = response.status_code == 200 and edition_of is not None
                        proof.check(whole, f"{response.status_code} {response.text[:300]}")
                        seen[-1 if edition_of is None else edition_of] += 1

        with swapping(root, editions, swaps, 1.5) as done:
            clients = [threading.Thread(target=ask, args=(done,)) for _ in range(4)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        time.sleep(3)
        assert httpx2.get(f"{url}/health").json()["generation"] == f"{swaps + 1:06}"
    assert len(seen) >= 2
    proof.note = f"{swaps} new indexes, answers of {len(seen)} editions"
    proof.end("hot reload of the HTTP server", 2 * swaps)
