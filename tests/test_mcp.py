"""The MCP server as a process, asked by the SDK's own client over stdio and over HTTP."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pybtex.database
import pytest
from door_servers import Agent, Loop, running

from indexer.guard import MAX_BODY

pytest_plugins = ["door_servers"]

SENTENCE = "Self-play with tree search [CITE] masters Go and chess."


@pytest.fixture(scope="module")
def remote(
    small_index: Path, loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Agent, str]]:
    """An agent of `indexer mcp --http`, and the server's address."""
    log = tmp_path_factory.mktemp("mcp") / "log"
    arguments = ("mcp", "--http", "--index", small_index, "--device", "cpu", "--port", 0)
    with running(log, *arguments) as (_, address), Agent(loop, f"{address}/mcp") as agent:
        yield agent, address


def test_the_tools_say_what_they_take(agent: Agent) -> None:
    tools = {tool.name: tool for tool in agent.tools()}
    assert set(tools) == {"suggest_citations", "find_papers", "get_bibtex"}
    for tool in tools.values():
        assert tool.description
        assert tool.annotations.read_only_hint
        assert tool.output_schema
    assert "[CITE]" in tools["suggest_citations"].input_schema["properties"]["text"]["description"]


def test_an_agent_cites_what_the_corpus_holds(agent: Agent, papers: list[dict[str, Any]]) -> None:
    titles = {paper["id"]: paper["title"] for paper in papers[::10]}
    answer = agent.call("suggest_citations", text=f"{SENTENCE} Residual networks [CITE] see.", k=3)
    assert [len(context["hits"]) for context in answer["contexts"]] == [3, 3]
    ids = []
    for context in answer["contexts"]:
        for hit in context["hits"]:
            assert titles[hit["paper_id"]] == hit["title"]
            ids.append(hit["paper_id"])
    entries = agent.call("get_bibtex", paper_ids=ids)["entries"]
    assert [entry["paper_id"] for entry in entries] == ids
    for entry in entries:
        read = pybtex.database.parse_string(entry["bibtex"], "bibtex").entries
        assert list(read) == [entry["key"]]


def test_papers_are_found_by_words_of_their_title(agent: Agent, papers: list[dict[str, Any]]) -> None:
    found = agent.call("find_papers", query=papers[20]["title"], k=5)
    assert len(found["hits"]) == 5
    assert papers[20]["id"] in {hit["paper_id"] for hit in found["hits"]}


def test_an_agent_can_say_which_papers_may_be_found(agent: Agent) -> None:
    keep = {"since": 2005, "until": 2020, "categories": ["cs"]}
    hits = agent.call("find_papers", query="models", **keep)["hits"]
    hits += agent.call("suggest_citations", text=SENTENCE, **keep)["contexts"][0]["hits"]
    assert {hit["categories"][0].split(".")[0] for hit in hits} == {"cs"}
    assert all(2005 <= hit["year"] <= 2020 for hit in hits)
    assert agent.call("find_papers", query="models", authors=["Nobody"])["hits"] == []


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("get_bibtex", {"paper_ids": ["arxiv:9999.99999"]}, "no paper of the corpus has the id arxiv:9999"),
        ("get_bibtex", {"paper_ids": []}, "paper_ids"),
        ("suggest_citations", {"text": " [CITE] "}, "the text is empty"),
        ("suggest_citations", {"text": "x" * 20_001}, "20000 characters"),
        ("suggest_citations", {"text": "storm", "k": 0}, "k"),
        ("suggest_citations", {"text": "storm", "authors": ["!"]}, "author is '!'"),
        ("find_papers", {"query": "storm", "until": 0}, "until"),
        ("find_papers", {}, "query"),
    ],
)
def test_what_cannot_be_answered_is_told_to_the_agent(
    tool: str, arguments: dict[str, Any], says: str, agent: Agent
) -> None:
    result = agent.ask(tool, **arguments)
    assert result.is_error
    assert says in result.content[0].text
    assert "Traceback" not in result.content[0].text


def test_http_answers_as_stdio_does(agent: Agent, remote: tuple[Agent, str]) -> None:
    over_http = remote[0].call("suggest_citations", text=SENTENCE, k=5)
    over_stdio = agent.call("suggest_citations", text=SENTENCE, k=5)
    assert over_http == over_stdio
    assert len(over_http["contexts"][0]["hits"]) == 5


def test_http_refuses_foreign_hosts_and_sites_and_large_bodies(remote: tuple[Agent, str]) -> None:
    url = f"{remote[1]}/mcp"
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for headers, status in (({"host": "evil.example"}, 400), ({"origin": "http://evil.example"}, 403)):
        assert httpx2.post(url, json=ping, headers=headers).status_code == status
    with contextlib.suppress(httpx2.WriteError):  # refused and closed before all of it was sent
        assert httpx2.post(url, json=ping | {"params": "x" * MAX_BODY}).status_code == 413


def test_an_index_that_is_not_there_is_one_line(invoke: Any, tmp_path: Path) -> None:
    result = invoke("mcp", "--index", tmp_path / "none")
    assert result.exit_code == 1
    assert "no index at" in result.stderr
    assert result.stdout == ""


def test_http_for_other_machines_needs_a_token(invoke: Any, small_index: Path) -> None:
    result = invoke("mcp", "--http", "--host", "0.0.0.0", "--index", small_index)
    assert result.exit_code == 1
    assert "CITEMARK_TOKEN" in result.stderr
