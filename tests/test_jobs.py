"""Commands at work for the page: their progress, their end, their interruption."""

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from indexer.jobs import Job
from indexer.store import Store


def test_a_build_reports_its_progress_and_leaves_an_index(
    small_corpus: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "index"
    job = Job(["build", str(small_corpus), "--index", str(root), "--encoder", str(tiny_folder)])
    assert job.wait(120) == job.code == 0
    assert not job.running
    assert job.step is not None
    assert job.step.share == 1
    assert any("index of 30 papers" in line for line in job.said)
    assert not any(line.startswith("{") for line in job.said)
    assert Store(root).current() is not None


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    job = Job(["build", str(tmp_path / "none.jsonl"), "--index", str(tmp_path / "index")])
    assert job.wait(120) == 1
    assert "none.jsonl" in job.said[-1]


@pytest.mark.parametrize("heeded", [signal.default_int_handler, signal.SIG_IGN], ids=["shell", "script"])
def test_an_interrupted_command_says_how_it_goes_on(
    tmp_path: Path, tiny_folder: Path, heeded: Any, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, heeded)))
    many = tmp_path / "many.jsonl"
    lines = (
        json.dumps({"id": f"p{n}", "title": f"Paper {n}", "abstract": "words " * 200}) for n in range(9000)
    )
    many.write_text("\n".join(lines))
    job = Job(["build", str(many), "--index", str(tmp_path / "index"), "--encoder", str(tiny_folder)])
    until = time.monotonic() + 300
    while job.step is None and job.running and time.monotonic() < until:
        time.sleep(0.05)
    job.stop()
    assert job.wait(120) == 130
    assert "goes on from here" in job.said[-1]
