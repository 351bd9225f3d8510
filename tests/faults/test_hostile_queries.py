"""Promise: a hostile query is one plain message or an answer, and what is too long costs nothing."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import ROOT
from hostile import hostile_texts, typed
from page_client import Served, Visitor, shown
from proof import Proof
from streamlit.testing.v1 import AppTest

from data.contexts import MAX_MARKS, MAX_QUERY, parse
from data.errors import UserError
from indexer.api_schema import MAX_CONTEXTS
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from model.encoder import Encoder

pytest_plugins = ["door_servers", "page_client", "proof"]

MEGABYTE = 1_000_000
AT_ONCE = 0.1  # seconds
PATIENCE = 300  # seconds of a page's run on a machine that may be busy
FULL = pytest.mark.faults


def plain(message: str) -> str:
    """The message, which is one short line that shows no internals."""
    assert message.isprintable()
    assert 10 < len(message) < 300
    assert "Traceback" not in message
    return message


@pytest.fixture(scope="module")
def engine(small_index: Path, tiny: Encoder) -> Searcher:
    return Searcher(Settings(index=small_index), tiny)


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=FULL)])
def test_the_core_answers_or_says_one_line(count: int, engine: Searcher, proof: Proof) -> None:
    answered, refused = 0, set()
    for number, text in enumerate(hostile_texts(count)):
        try:
            contexts = parse(text)
            assert 1 <= len(contexts) <= MAX_MARKS
            found = engine.search(contexts[:5], 3, RANKINGS[number % 3])
        except UserError as error:
            refused.add(plain(str(error)).split()[2])
        else:
            answered += 1
            assert len(found) == len(contexts[:5])
            assert all(hit.score == hit.score for hits in found for hit in hits)  # no NaN
        proof.check(True, text)
    assert refused == {"is", "has"}  # empty; too many characters or marks
    assert answered > count // 2
    proof.note = f"{answered:,} answered, the others one line"
    proof.end("hostile query through the core", count)


@pytest.mark.parametrize("count", [10, pytest.param(2000, marks=FULL)])
def test_the_page_answers_or_says_one_line(
    count: int, small_index: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    monkeypatch.setenv("CITEMARK_INDEX", str(small_index))
    monkeypatch.setenv("CITEMARK_K", "1")
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=PATIENCE).run()
    for text in hostile_texts(count, seed=8):
        page.text_area(key="text").set_value(typed(text))
        page.button[0].click().run()
        assert not page.exception, (text, page.exception)
        assert len(page.error) <= 1
        for error in page.error:
            plain(shown(error.value))
        assert page.error or page.toggle or page.info, text
        proof.check(True, text)
    proof.end("hostile query through the page", count)


LONG = {
    "words": "word " * (MEGABYTE // 5),
    "one word": "x" * MEGABYTE,
    "spaces": " " * MEGABYTE,
    "marks": "[CITE] " * (MEGABYTE // 7),
    "joiners": "\u200d" * (MEGABYTE // 3),
    "surrogates": "\ud800" * (MEGABYTE // 3),
    "sentences": "A. " * (MEGABYTE // 3),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_megabyte_is_refused_by_the_core_at_once(text: str) -> None:
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        with pytest.raises(UserError, match=f"the limit is {MAX_QUERY:,}"):
            parse(text)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < AT_ONCE


def test_a_mark_too_many_is_refused_with_both_numbers(engine: Searcher) -> None:
    assert len(parse("a [CITE]. " * MAX_MARKS)) == MAX_MARKS
    with pytest.raises(UserError, match=rf"has 2,000 \[CITE\] marks, the limit is {MAX_MARKS}"):
        parse("a [CITE]. " * 2000)


def test_what_is_too_long_is_refused_before_any_token(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(tiny, "_encode", touched)
    for text in LONG.values():
        with pytest.raises(UserError):
            tiny.encode_contexts(parse(text))


def check_refusals(ask: Callable[[str], tuple[int, str]], tries: int, proof: Proof) -> None:
    """Every megabyte is refused in one line, and as fast as an empty text or in AT_ONCE.

    On a machine that is busy with other things even an empty text may take longer than AT_ONCE.
    """

    def seconds(text: str) -> float:
        begin = time.perf_counter()
        status, message = ask(text)
        assert status in (413, 422)
        plain(message)
        return time.perf_counter() - begin

    empty = statistics.median(seconds(" ") for _ in range(5))
    taken = [seconds(text) for _ in range(tries) for text in map(typed, LONG.values())]
    proof.tries = len(taken)
    proof.note = f"in {statistics.median(taken) * 1e3:.1f} ms, an empty text in {empty * 1e3:.1f} ms"
    assert min(taken) < max(AT_ONCE, 2 * empty)
    assert statistics.median(taken) < max(AT_ONCE, 3 * empty)
    proof.end("a megabyte is refused")


@pytest.mark.parametrize("tries", [1, pytest.param(20, marks=FULL)])
def test_a_megabyte_is_refused_by_http_at_once(tries: int, api: httpx2.Client, proof: Proof) -> None:
    def ask(text: str) -> tuple[int, str]:
        body = json.dumps({"text": text}, ensure_ascii=False).encode()
        try:
            answer = api.post("/search", content=body, headers={"content-type": "application/json"})
        except httpx2.WriteError:
            return 413, "refused, and closed before all of it was sent"
        return answer.status_code, str(answer.json()["detail"])

    check_refusals(ask, tries, proof)


@pytest.mark.parametrize("count", [50, pytest.param(2000, marks=FULL)])
def test_http_answers_or_says_one_line(count: int, api: httpx2.Client, proof: Proof) -> None:
    for text in hostile_texts(count, seed=9):
        answer = api.post("/search", json={"text": typed(text), "k": 1})
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 422:
            plain(answer.json()["detail"])
        proof.check(True, text)
    proof.end("hostile query through HTTP", count)


def test_a_batch_has_so_many_contexts_and_no_more(api: httpx2.Client) -> None:
    texts = ["a [CITE]. " * MAX_MARKS] * (MAX_CONTEXTS // MAX_MARKS + 1)
    answer = api.post("/batch", json={"texts": texts})
    assert answer.status_code == 422
    assert f"600 contexts, the limit is {MAX_CONTEXTS}" in plain(answer.json()["detail"])


@pytest.mark.parametrize("tries", [1, pytest.param(5, marks=FULL)])
def test_a_megabyte_is_refused_by_the_running_page_at_once(tries: int, page: Served, proof: Proof) -> None:
    with Visitor(page.address) as visitor:

        def ask(text: str) -> tuple[int, str]:
            drawn = visitor.ask(text)
            assert drawn.exceptions == []
            assert drawn.toggles == 0
            (alert,) = drawn.alerts
            return 413, shown(alert)

        check_refusals(ask, tries, proof)
        for number in range(3):  # and goes on answering
            drawn = visitor.ask(f"tree search [CITE] for Go {number}")
            assert (drawn.alerts, drawn.toggles > 0) == ([], True)


def broken_messages() -> dict[str, Any]:
    return {"no message": b"\xff" * 100, "text": "hello", "too large": b"\x0a" + b"\xff" * 6_000_000}


@pytest.mark.parametrize("message", broken_messages().values(), ids=broken_messages())
def test_a_message_that_is_none_ends_its_own_session_alone(message: Any, page: Served) -> None:
    with Visitor(page.address) as other, Visitor(page.address) as visitor:
        left = visitor.after(message)
        assert not any(word in left for word in (b"Traceback", b"/site-packages/", str(ROOT).encode()))
        assert other.ask("tree search [CITE] for Go").toggles > 0
