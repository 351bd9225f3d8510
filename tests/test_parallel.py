"""A file read in pieces, by one process or by several, whatever befalls them: what the whole gives."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import snapshot
from conftest import environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_clean import ARXIV_RECORD, JSON
from test_columns import ARXIVS, WRONG

from data import corpus, formats, parallel
from data.corpus import Reading
from data.errors import UserError
from data.filter import Filter
from data.paper import from_rows
from data.table import PaperTable

ROOT = Path(__file__).parent.parent

RECORDS = (ARXIVS | WRONG | JSON).map(lambda record: json.dumps(record).encode())
BROKEN = st.sampled_from(
    (
        b"",
        b" ",
        b"\t\r",
        b"\xef\xbb\xbf",
        b"{",
        b'{"title": "cut',
        b"\xff",
        b"null",
        b"[1]",
        b"\f",
        b"x" * 2000,
    )
) | st.binary(max_size=30).map(lambda line: line.replace(b"\n", b""))


def in_pieces(path: Path, reading: Reading) -> list[Any]:
    """The papers by way of pieces, without a table; the counts go into `reading`."""
    return [paper for rows in corpus._batches(str(path), reading, None) for paper in from_rows(rows)]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(RECORDS | BROKEN, max_size=8),
    end=st.sampled_from((b"\n", b"\r\n", b"\n\n")),
    last=st.booleans(),
    size=st.integers(1, 3000),
    suffix=st.sampled_from((".jsonl", ".json")),
)
def test_pieces_of_any_size_give_what_the_whole_gives(
    lines: list[bytes],
    end: bytes,
    last: bool,
    size: int,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "MAX_LINE", 1500)
    monkeypatch.setattr(parallel, "PIECE", size)
    path = (tmp_path / "p").with_suffix(suffix)
    path.write_bytes(end.join(lines) + end * last)
    whole, apart = Reading(), Reading()
    try:
        papers = list(corpus.read(str(path), whole))
    except UserError as refused:
        with pytest.raises(UserError, match=re.escape(str(refused))):
            in_pieces(path, apart)
        return
    assert in_pieces(path, apart) == papers
    apart.accepted = whole.accepted
    assert apart == whole


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of many pieces, with blank and over-long lines, that is large enough to be shared."""
    monkeypatch.setattr(parallel, "SHARED", 0)
    monkeypatch.setattr(parallel, "PIECE", 50_000)
    path = tmp_path / "snapshot.json"
    lines = list(snapshot.lines(600, bad=0.04, seed=7))
    lines[100:100] = ["\n", " \n", "x" * (formats.MAX_LINE + 5) + "\n", "\n"]
    path.write_text("".join(lines) + json.dumps(ARXIV_RECORD), "utf-8")
    return path


def written(source: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, Reading]:
    monkeypatch.setattr(parallel, "PROCESSES", processes)
    table = source.with_name(f"{processes}.arrow")
    reading = corpus.write(str(source), table, Filter())
    return table.read_bytes(), reading


def test_any_number_of_processes_writes_the_same_bytes(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = written(source, 0, monkeypatch)
    assert alone[1].rejected > 10
    assert "line 103: a line of over 8,388,608 bytes" in alone[1].rejects
    monkeypatch.setattr(parallel, "piece", None)  # the reader has nothing to do
    assert written(source, 1, monkeypatch) == alone
    assert written(source, 3, monkeypatch) == alone
    monkeypatch.undo()
    monkeypatch.setattr(corpus, "is_plain_lines", lambda path: False)
    assert written(source, 2, monkeypatch) == alone, "nor is it told whether it was read in pieces"


def test_progress_goes_from_piece_to_piece(source: Path) -> None:
    told: list[tuple[int, int]] = []
    reading = corpus.write(str(source), source.with_name("t"), Filter(), progress=lambda *at: told.append(at))
    assert told == sorted(told)
    assert told[-1] == (corpus.size(str(source)), reading.read)
    assert len(told) > 20


def test_what_processes_do_not_deliver_is_read_all_the_same(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = written(source, 0, monkeypatch)
    real = subprocess.Popen
    killed = []

    def short_lived(*arguments: Any, **named: Any) -> "subprocess.Popen[bytes]":
        process = real(*arguments, **named)
        assert process.stdout is not None
        process.stdout.peek(1)  # type: ignore[attr-defined]
        process.kill()
        killed.append(process)
        return process

    def none_at_all(*arguments: Any, **named: Any) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    for start in (short_lived, none_at_all):
        monkeypatch.setattr(subprocess, "Popen", start)
        assert written(source, 2, monkeypatch) == expected
    assert len(killed) == 2


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "data.parallel" in child.cmdline()]


def test_a_reader_that_stops_leaves_no_process(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PROCESSES", 2)
    batches = corpus._batches(str(source), Reading(), None)
    assert len(list(islice(batches, 2))) == 2
    assert len(children()) == 2
    batches.close()
    assert not children()

    def full(*_: object) -> None:
        assert children()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.table.PaperWriter.add_batch", full)
    with pytest.raises(OSError, match="No space left"):
        corpus.write(str(source), source.with_name("t"), Filter())
    assert not children()


READER = """
import sys, time
from pathlib import Path
from data import corpus, parallel
from data.filter import Filter
parallel.SHARED, parallel.PIECE, parallel.PROCESSES = 0, 50_000, 2
def progress(*_):
    print("reading", flush=True)
    time.sleep(0.1)
try:
    corpus.write(sys.argv[1], Path(sys.argv[2]), Filter(), progress=progress)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def reader(source: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    """Starts one that reads with two processes, in a group as a terminal's foreground has it."""
    started = []

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", READER, source, source.with_name("t")],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("harm", [signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_reader_is_the_end_of_its_processes(
    reader: Callable[[], "subprocess.Popen[str]"], harm: signal.Signals
) -> None:
    process = reader()
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    theirs = psutil.Process(process.pid).children()
    assert len(theirs) == 2
    os.killpg(process.pid, harm)  # as Ctrl-C does, to all that the terminal knows
    stdout, stderr = process.communicate(timeout=60)
    assert stderr == ""
    assert stdout.endswith("interrupted\n") == (harm == signal.SIGINT)
    _, alive = psutil.wait_procs(theirs, timeout=30)
    assert not alive


def test_a_small_file_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(ARXIV_RECORD), "utf-8")
    corpus.write(str(path), tmp_path / "t", Filter())
    assert PaperTable(tmp_path / "t").ids() == ["arxiv:0704.0001"]
