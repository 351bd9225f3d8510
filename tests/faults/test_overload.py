"""Promise: under too much at once the servers stay up, answer in turn or say busy, and do not grow.

Clients ask without a pause. An answer is good (200, or a page with its hits) or "busy" (429, or the
page's one message), which is counted apart; anything else is an error.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from door_servers import running
from page_client import PATIENCE, Served, Visitor, serving
from proof import Proof
from websockets.exceptions import InvalidStatus

from indexer.guard import PAGES, Busy, Gate

pytest_plugins = ["page_client", "proof"]

CLIENTS = 64
SENTENCE = "Self-play with tree search [CITE] masters Go and chess."
FULL = pytest.mark.faults
Ask = Callable[[int], str]
"""Asks once for the client of this number: ok, busy, or what went wrong."""


@dataclass
class Load:
    """What many clients got: answers by kind, and the seconds of the good ones."""

    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def after(self, share: float) -> float:
        """The seconds within which this share of the good answers came."""
        return float(np.percentile(self.seconds, 100 * share))

    @property
    def grown(self) -> float:
        """By what share the memory grew."""
        return max(self.memory) / self.memory[0] - 1

    def __str__(self) -> str:
        shown = ", ".join(f"p{100 * share:.0f} {self.after(share) * 1e3:.0f} ms" for share in (0.5, 0.99))
        return f"{dict(self.answers)}, {shown}, memory {self.grown:+.1%}"


def load(ask: Ask, count: int, seconds: float, process: psutil.Process) -> Load:
    """So many clients for so long."""
    found, lock, stop = Load(memory=[process.memory_info().rss]), threading.Lock(), threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            begin = time.monotonic()
            kind = ask(number)
            with lock:
                found.answers[kind] += 1
                if kind == "ok":
                    found.seconds.append(time.monotonic() - begin)
            if kind == "busy":
                time.sleep(0.2)

    with ThreadPoolExecutor(count) as pool:
        clients = [pool.submit(client, number) for number in range(count)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(1.0, seconds / 4))
            found.memory.append(process.memory_info().rss)
        stop.set()
        for done in clients:
            done.result()
    return found


def measured(ask: Ask, count: int, seconds: float, process: psutil.Process, what: str, proof: Proof) -> None:
    """One client, then many; the promise on errors, waiting and memory."""
    load(ask, 1, 1, process)  # the first search loads what all of them need
    alone = load(ask, 1, max(2, seconds / 6), process)
    load(ask, count, seconds / 6, process)  # what stays with the process from then on is no growth
    many = load(ask, count, seconds, process)
    print(f"\n{what}: 1 client: {alone}\n{what}: {count} clients, {seconds:.0f} s: {many}")
    for found in (alone, many):
        for kind, times in found.answers.items():
            for _ in range(times):
                proof.check(kind in ("ok", "busy"), kind)
    longest = 3 * count * alone.after(0.5)
    proof.note = (
        f"{count} clients, p99 {many.after(0.99):.1f} s of {longest:.1f} s, memory {many.grown:+.1%}, "
        f"{many.answers['busy']} busy"
    )
    assert alone.answers["busy"] == 0
    assert many.after(0.99) <= longest
    assert many.grown <= 0.10
    proof.end(f"overload of {what}", count)


@pytest.fixture(scope="module")
def api(small_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    log = tmp_path_factory.mktemp("overload") / "log"
    with running(log, "serve", "--index", small_index, "--device", "cpu", "--port", 0) as (process, address):
        yield process.pid, address


@FULL
def test_http_under_too_many_clients(api: tuple[int, str], proof: Proof) -> None:
    (pid, address), count = api, CLIENTS
    with ExitStack() as opened:
        clients = [
            opened.enter_context(httpx2.Client(base_url=address, timeout=PATIENCE)) for _ in range(count)
        ]

        def ask(number: int) -> str:
            answer = clients[number].post("/search", json={"text": f"{SENTENCE} {number}", "k": 5})
            if answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1:
                return "busy"
            return "ok" if answer.status_code == 200 else f"status {answer.status_code}"

        measured(ask, count, 60, psutil.Process(pid), "HTTP", proof)


@FULL
def test_the_page_under_too_many_visitors(small_index: Path, tmp_path: Path, proof: Proof) -> None:
    with serving(small_index, tmp_path / "log") as page:
        crowd(CLIENTS, 60, page, proof)


def crowd(count: int, seconds: float, page: Served, proof: Proof) -> None:
    before = page.log.read_text().count("Traceback")
    with ExitStack() as opened, ThreadPoolExecutor(count) as pool:
        visitors = list(pool.map(lambda _: opened.enter_context(Visitor(page.address)), range(count)))

        def ask(number: int) -> str:
            drawn = visitors[number].ask(f"{SENTENCE} {number} {time.monotonic()}")
            if drawn.exceptions:
                return f"exception {drawn.exceptions}"
            if drawn.alerts:
                return "busy" if "busy" in drawn.alerts[0] else f"message {drawn.alerts}"
            return "ok" if drawn.toggles else "no hits"

        measured(ask, count, seconds, psutil.Process(page.process.pid), "the page", proof)
    assert page.log.read_text().count("Traceback") == before


@FULL
def test_a_page_too_many_is_told_busy(page: Served) -> None:
    with ExitStack() as opened:
        refused = Counter[int]()
        for _ in range(PAGES + 20):
            try:
                opened.enter_context(Visitor(page.address))
            except InvalidStatus as busy:
                refused[busy.response.status_code] += 1
        assert set(refused) == {503}
        assert refused[503] >= 20
    time.sleep(1)
    with Visitor(page.address) as visitor:
        assert visitor.ask(SENTENCE).toggles > 0


def test_a_full_queue_is_busy_at_once_and_empties() -> None:
    gate, go = Gate(workers=2, limit=4), threading.Event()
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(gate.wait, lambda: go.wait(60)) for _ in range(4)]
        while gate.pending < 4:
            time.sleep(0.01)
        begin = time.monotonic()
        with pytest.raises(Busy, match=r"busy: too many searches wait at present; come again in \d+ s"):
            gate.wait(lambda: None)
        assert time.monotonic() - begin < 5
        go.set()
        assert [done.result(60) for done in waiting] == [True] * 4
    assert gate.wait(lambda: "again") == "again"
    assert gate.pending == 0
    gate.close()
