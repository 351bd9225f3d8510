"""The real page in a real browser, over an index that is replaced again and again."""

import shutil
from pathlib import Path

import pytest
from proof import Proof
from test_browser import CHROMIUM, FLAGS, PATIENCE, Visit, expect, serving, sync_api
from test_swap import SENTENCE, Editions, editions, swapping

pytest_plugins = ["proof"]
pytestmark = [
    pytest.mark.faults,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
]
__all__ = ["editions"]  # a fixture of test_swap


def test_the_page_takes_up_new_indexes_without_a_failed_search(
    editions: Editions, tmp_path: Path, proof: Proof
) -> None:
    """Searches follow each other while the index is replaced: no message of a fault, no mixed answer."""
    root = shutil.copytree(editions.folders[0], tmp_path / "index")
    expect.set_options(timeout=PATIENCE)
    seen = set()
    with serving(root) as url, sync_api.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        visit = Visit(chromium.new_page())
        visit.page.goto(url)
        with swapping(root, editions, 20, 1.5) as done:
            while not done.is_set() or len(seen) < 2:
                visit.ask(SENTENCE)
                visit.expect_hits(10)
                titles = visit.titles.locator("strong").all_inner_texts()
                fault = visit.page.get_by_test_id("stAlert").all_inner_texts()
                fits = [found] if (found := editions.of(titles[:5])) is not None else []
                proof.check(bool(fits) and not fault, f"{titles[:5]} {fault}")
                seen.update(fits)
        chromium.close()
    proof.note = f"20 new indexes, answers of {len(seen)} editions"
    proof.end("hot reload of the page", 5)
