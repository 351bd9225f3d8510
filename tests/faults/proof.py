"""What the proofs of the promises share: their numbers, their table at the end, processes to be killed.

Every proof runs twice: with few tries in the plain `pytest`, and with the full numbers in `make faults`.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, environment, write_corpus
from sketch import Sketcher

from indexer import atlas
from indexer.build import build

OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]  # file systems of its own, for any user
_ROWS = pytest.StashKey[list[tuple[str, int, int, str]]]()


def tries(quick: object, full: object) -> list[Any]:
    """The values of a parameter: the quick one of every test run, and the full one of `make faults`."""
    return [pytest.param(quick, id="quick"), pytest.param(full, id="full", marks=pytest.mark.faults)]


@dataclass
class Proof:
    """Counts the tries of one promise; `end` notes them for the table and fails if any failed."""

    config: pytest.Config
    tries: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        self.failures: list[str] = []

    def check(self, holds: object, what: object) -> None:
        """One try: whether the promise held, else what happened."""
        self.tries += 1
        if not holds:
            self.failures.append(str(what))

    def end(self, promise: str, least: int = 1) -> None:
        """The verdict; `least` tries are needed for one."""
        rows = self.config.stash.setdefault(_ROWS, [])
        rows.append((promise, self.tries, len(self.failures), self.note))
        assert self.tries >= least, f"{promise}: only {self.tries} tries"
        shown = "\n".join(self.failures[:10])
        assert not self.failures, f"{promise}: {len(self.failures)} of {self.tries} failed\n{shown}"


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Proof:
    return Proof(request.config)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if rows:
        width = max(len(row[0]) for row in rows)
        terminalreporter.section("promises")
        terminalreporter.line(f"{'promise':{width}} | {'tries':>6} | failures")
        for promise, count, failed, note in rows:
            terminalreporter.line(f"{promise:{width}} | {count:6,} | {failed:8,}  {note}".rstrip())


def every_kind(papers: Sequence[dict[str, Any]], encoder: Any, folder: Path) -> Path:
    """An index with every kind of file that one can have: rejects, known citations, a map, lists of codes."""
    corpus = write_corpus(folder / "corpus.jsonl", [*papers, {"no": "title"}])
    said = [
        {"text": f"As in {paper['title']} [CITE].", "cited_id": paper["id"], "citing_id": f"by-{number}"}
        for number, paper in enumerate(papers)
    ]
    contexts = write_corpus(folder / "contexts.jsonl", said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas, "project", lambda vectors, _: np.ascontiguousarray(vectors[:, :2]))
        build(str(corpus), folder / "index", encoder, with_map=True, contexts=str(contexts), kind="lists")
    return folder / "index"


@pytest.fixture(scope="session")
def sketch() -> Any:
    """An encoder that needs no model."""
    return Sketcher()


@pytest.fixture(scope="session")
def sketched(small_corpus: Path, sketch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the small corpus by it. Copy it before you harm it."""
    root = tmp_path_factory.mktemp("sketched") / "papers"
    build(str(small_corpus), root, sketch)
    return root


@dataclass
class Child:
    """A process that the nursery started."""

    nursery: "Nursery"
    pid: int

    def wait(self) -> tuple[int, str, str]:
        """Its exit code (minus the signal that killed it), what it printed and what it said on stderr."""
        self.nursery.at_work = False
        ended = self.nursery.read()
        return ended["code"], ended["out"], ended["err"]

    def kill(self) -> tuple[int, str, str]:
        """End it now, wherever it is; the same."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()


class Nursery:
    """Starts processes at once: it has loaded the libraries, and forks.

    `start` runs Python code in a new process, which finds its arguments in `args`, an encoder in
    `encoder`, and the command `indexer` in `run(*words)`. One child at a time; one that a test left
    alone is waited for. Where `mounts` says so, the children may mount file systems, which nobody else
    sees.
    """

    mounts = False
    at_work = False

    def __init__(self) -> None:
        with suppress(OSError):
            tried = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"]
            self.mounts = subprocess.run(tried, capture_output=True, check=False).returncode == 0
        prefix = OWN_MOUNTS if self.mounts else []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(Path(__file__).with_name("nursery.py"))],
            cwd=ROOT,
            env=environment(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "ready"

    def start(self, code: str, *arguments: object) -> Child:
        """Run the code in a new process."""
        assert self._process.stdin is not None
        if self.at_work:
            self.read()
        self.at_work = True
        self._process.stdin.write(json.dumps([code, [str(a) for a in arguments]]) + "\n")
        self._process.stdin.flush()
        return Child(self, self.read())

    def run(self, code: str, *arguments: object) -> tuple[int, str, str]:
        """Run the code to its end: its exit code, stdout and stderr."""
        return self.start(code, *arguments).wait()

    def read(self) -> Any:
        """The next word of the nursery."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery has gone"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    yield started
    started.close()
