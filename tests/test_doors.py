"""One engine behind every door: the same text gives the same papers and scores at each of them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import ROOT, environment
from door_servers import Agent, Editor

from data.contexts import parse
from data.keys import citation_key
from indexer.search import Searcher
from indexer.settings import Settings

pytest_plugins = ["door_servers"]

TEXTS = (
    "Self-play with tree search [CITE] masters Go and chess.",
    "Predicting precipitation from clouds on a sphere [CITE].",
    "Naïve $\\alpha$-divergences and ¿other? signs [CITE], as in [OTHER].",
)
K = 5


@pytest.fixture(scope="module")
def searcher_of_doors(small_index: Path) -> Searcher:
    """It loads the encoder by the index's word, in the precision that the doors choose."""
    return Searcher(Settings(small_index, "cpu"))


@pytest.mark.parametrize("text", TEXTS)
def test_all_doors_give_the_same_hits(
    text: str,
    searcher_of_doors: Searcher,
    small_index: Path,
    invoke: Any,
    api: httpx2.Client,
    agent: Agent,
    editor: Editor,
    tmp_path: Path,
) -> None:
    hits = searcher_of_doors.search(parse(text), K)[0]
    ids = [hit.paper.paper_id for hit in hits]
    assert len(ids) == K

    command = invoke("search", text, "--index", small_index, "--device", "cpu", "-k", K, "--json")
    answers = {
        "command": json.loads(command.stdout),
        "http": api.post("/search", json={"text": text, "k": K}).json(),
        "agent": agent.call("suggest_citations", text=text, k=K),
    }
    for door, answer in answers.items():
        found = answer["contexts"][0]["hits"]
        assert [hit["paper_id"] for hit in found] == ids, door
        scores = [hit["score"] for hit in found]
        assert scores == pytest.approx([hit.score for hit in hits], abs=1e-5), door
        assert set(found[0]) == set(hits[0].as_dict()), door

    draft = tmp_path / "draft.md"
    before, after = text.replace("[OTHER]", "[@other]").split("[CITE]")
    draft.write_text(f"{before}[@]{after}\n", encoding="utf-8")
    items = editor.complete(editor.open(draft), 0, len(before) + 2)
    assert [item.data for item in items] == ids
    assert [item.label for item in items] == [citation_key(hit.paper) for hit in hits]


@pytest.mark.parametrize(
    ("door", "package"), [("serve", "fastapi"), ("mcp", "mcp"), ("lsp", "pygls"), ("mcp", "uvicorn")]
)
def test_without_its_packages_a_door_says_what_to_install(door: str, package: str, tmp_path: Path) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None; from indexer.cli import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", hidden, door, "--index", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.count("\n") == 1
    assert f"needs {package}" in shown.stderr
    assert "pip install 'citemark[doors]'" in shown.stderr


def test_the_page_of_the_doors_names_commands_that_exist(invoke: Any) -> None:
    text = (ROOT / "docs" / "doors.md").read_text(encoding="utf-8")
    for door in ("serve", "mcp", "lsp"):
        assert f"indexer {door}" in text or f'"{door}"' in text
        assert invoke(door, "--help").exit_code == 0
