"""The page's server gets ready as it starts: before its first visitor, and whatever its index is like."""

import logging
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import page_process

from data.contexts import parse
from indexer import search
from indexer.build import build
from indexer.settings import Settings
from model.encoder import Encoder
from pages.parts.engine import opened

VISITORS = 8

pytestmark = pytest.mark.timeout(240)  # a server that says nothing is waited for


@contextmanager
def started(index: Path) -> Iterator[tuple[str, list[str]]]:
    """The server and the lines that it printed, to the first one about its index; then nothing in tracebacks.

    Nobody visits the page.
    """
    with page_process(index) as (process, address):
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while not all(any(word in line for line in lines) for word in ("citemark: ", "URL: ")):
                line = process.stdout.readline()
                assert line, lines
                lines.append(line)
            yield address, lines
        finally:
            process.send_signal(signal.SIGTERM)
            lines += process.stdout
    assert "Traceback" not in "".join(lines)
    assert len(said(lines)) == 1


def said(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("citemark: ")]


def healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/_stcore/health") as answer:
        return bool(answer.read() == b"ok")


def test_a_server_is_ready_before_its_first_visitor(small_index: Path) -> None:
    with started(small_index) as (url, lines):
        assert "ready for searches" in said(lines)[0]
        assert healthy(url)


def test_a_server_without_an_index_says_so_in_one_line(tmp_path: Path) -> None:
    with started(tmp_path / "nothing") as (url, lines):
        assert f"no index at {tmp_path / 'nothing'}" in said(lines)[0]
        assert healthy(url)


def test_a_server_over_a_damaged_index_says_so_in_one_line(tmp_path: Path, small_index: Path) -> None:
    root = Path(shutil.copytree(small_index, tmp_path / "damaged"))
    (file,) = root.rglob("vectors.faiss")
    file.write_bytes(file.read_bytes()[:-1])
    with started(root) as (url, lines):
        assert f"{file} is damaged" in said(lines)[0]
        assert healthy(url)


def test_visitors_during_the_start_wait_for_the_one_encoder(
    small_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that gets ready and eight visitors: one engine, and one encoder loaded."""
    loaded: list[Encoder] = []

    class Counted(Encoder):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            loaded.append(self)

    monkeypatch.setattr(search, "Encoder", Counted)
    settings = Settings(Path(shutil.copytree(small_index, tmp_path / "index")))

    def visitor(_: int) -> search.Searcher:
        engine = opened(settings).engine
        assert engine.search(parse("attention [CITE]"))[0]
        return engine

    with ThreadPoolExecutor(VISITORS) as pool:
        engines = list(pool.map(visitor, range(VISITORS)))
    opened(settings).readying.join()
    assert len(set(map(id, engines))) == 1
    assert len(loaded) == 1


def test_a_question_that_finds_nothing_makes_ready_too(
    tmp_path: Path, tiny: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "one.jsonl"
    source.write_text('{"id": "bib:rain", "title": "Rain"}\n')
    build(str(source), tmp_path / "index", tiny)
    with caplog.at_level(logging.INFO, "citemark"):
        opened(Settings(tmp_path / "index", ranking="bm25")).readying.join()
    (said,) = caplog.messages
    assert said.startswith("ready for searches")
