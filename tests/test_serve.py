"""The HTTP API as a process: what it answers, what it refuses, overload, reload and stop."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pybtex.database
import pytest
from conftest import environment
from door_servers import QUIET, running
from prometheus_client.parser import text_string_to_metric_families

from data.errors import UserError
from indexer.api_schema import MAX_BATCH
from indexer.build import build
from indexer.candidates import UNLEARNED_WEIGHT
from indexer.guard import MAX_BODY
from indexer.serve import ServeSettings
from model.encoder import Encoder

pytest_plugins = ["door_servers"]

SENTENCE = "Self-play with tree search [CITE] masters Go and chess."
TWO = "Residual networks [CITE] detect objects. Sparse retrieval [CITE] ranks passages."


def detail(response: httpx2.Response) -> str:
    body = response.json()
    assert list(body) == ["detail"]
    assert "\n" not in body["detail"]
    assert "Traceback" not in body["detail"]
    return str(body["detail"])


def test_search_has_a_list_of_hits_for_each_mark(api: httpx2.Client) -> None:
    answer = api.post("/search", json={"text": TWO, "k": 3}).json()
    assert [len(context["hits"]) for context in answer["contexts"]] == [3, 3]
    assert "[CITE]" in answer["contexts"][0]["text"]
    hit = answer["contexts"][0]["hits"][0]
    assert hit["rank"] == 1
    assert hit["title"]
    assert hit["score"] == pytest.approx(hit["dense"] + UNLEARNED_WEIGHT * hit["bm25"], abs=1e-5)


def test_a_batch_answers_as_its_texts_alone(api: httpx2.Client) -> None:
    alone = [api.post("/search", json={"text": text, "k": 4}).json() for text in (SENTENCE, TWO)]
    together = api.post("/batch", json={"texts": [SENTENCE, TWO], "k": 4}).json()["answers"]

    def ids(answer: dict[str, Any]) -> list[list[str]]:
        return [[hit["paper_id"] for hit in context["hits"]] for context in answer["contexts"]]

    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]


def test_a_ranking_can_be_asked_for(api: httpx2.Client) -> None:
    hits = api.post("/search", json={"text": "storm", "ranking": "bm25"}).json()["contexts"][0]["hits"]
    assert hits
    assert all(hit["dense"] is None for hit in hits)


def test_a_paper_and_its_neighbours(api: httpx2.Client, papers: list[dict[str, Any]]) -> None:
    wanted = papers[20]
    paper = api.get("/paper", params={"id": wanted["id"]}).json()
    assert (paper["title"], paper["authors"]) == (wanted["title"], wanted["authors"])
    similar = api.get("/similar", params={"id": wanted["id"], "k": 5}).json()
    assert [hit["rank"] for hit in similar["hits"]] == [1, 2, 3, 4, 5]
    assert wanted["id"] not in {hit["paper_id"] for hit in similar["hits"]}
    for path in ("/paper", "/similar"):
        unknown = api.get(path, params={"id": "nobody"})
        assert (unknown.status_code, detail(unknown)) == (404, "no paper with this id in the index")


def test_what_may_be_found_can_be_asked_for(api: httpx2.Client, papers: list[dict[str, Any]]) -> None:
    keep = {"categories": ["cs"], "since": 2005, "until": 2020}
    hits = api.post("/search", json={"text": "models", **keep}).json()["contexts"][0]["hits"]
    hits += api.post("/batch", json={"texts": ["models"], **keep}).json()["answers"][0]["contexts"][0]["hits"]
    hits += api.get("/similar", params={"id": papers[20]["id"], **keep}).json()["hits"]
    assert {hit["categories"][0].split(".")[0] for hit in hits} == {"cs"}
    assert all(2005 <= hit["year"] <= 2020 for hit in hits)
    empty = api.post("/search", json={"text": "models", "authors": ["Nobody"]})
    assert (empty.status_code, empty.json()["contexts"][0]["hits"]) == (200, [])
    refused = api.post("/search", json={"text": "models", "authors": ["!"]})
    assert (refused.status_code, "author is '!'" in detail(refused)) == (422, True)
    assert api.get("/similar", params={"id": papers[20]["id"], "authors": "!"}).status_code == 422
    assert api.post("/search", json={"text": "models", "since": 0}).status_code == 422


def test_the_entries_of_cite_are_read_by_another_parser(
    api: httpx2.Client, papers: list[dict[str, Any]]
) -> None:
    ids = [paper["id"] for paper in papers[::10]]
    entries = api.post("/cite", json={"ids": ids}).json()["entries"]
    assert [entry["paper_id"] for entry in entries] == ids
    keys = [entry["key"] for entry in entries]
    assert len(set(keys)) == len(keys)
    read = pybtex.database.parse_string("\n".join(entry["bibtex"] for entry in entries), "bibtex")
    assert list(read.entries) == keys
    assert api.post("/cite", json={"ids": [ids[0], "nobody"]}).status_code == 404


def test_health_and_metrics(api: httpx2.Client) -> None:
    api.post("/search", json={"text": SENTENCE})
    health = api.get("/health").json()
    assert health["papers"] == 30
    shown = api.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    metrics = {family.name: family for family in text_string_to_metric_families(shown.text)}
    assert metrics["citemark_papers"].samples[0].value == 30
    searches = [s for s in metrics["citemark_requests"].samples if s.labels.get("path") == "/search"]
    assert any(sample.labels["status"] == "200" and sample.value >= 1 for sample in searches)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"text": ""}, 422, "body.text"),
        ({"text": " [CITE] "}, 422, "the text is empty"),
        ({"text": "x" * 20_001}, 422, "20000 characters"),
        ({"text": "storm", "k": 0}, 422, "body.k"),
        ({"text": "storm", "k": 101}, 422, "body.k"),
        ({"text": "storm", "ranking": "magic"}, 422, "body.ranking"),
        ({"text": "storm", "kk": 5}, 422, "body.kk"),
        ({}, 422, "body.text"),
        ([], 422, "body"),
    ],
)
def test_a_request_that_cannot_be_searched_is_told_why(
    body: Any, status: int, says: str, api: httpx2.Client
) -> None:
    response = api.post("/search", json=body)
    assert (response.status_code, says in detail(response)) == (status, True), response.text


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 200_000, b'{"text": "\\ud800"}', b"null", b""])
def test_a_body_that_is_no_request_is_refused_in_one_line(body: bytes, api: httpx2.Client) -> None:
    response = api.post("/search", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    detail(response)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_megabyte_is_refused_at_once(chunked: bool, api: httpx2.Client) -> None:
    body = json.dumps({"text": "a " * 500_000}).encode()
    assert len(body) > MAX_BODY

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 65_536] for start in range(0, len(body), 65_536))

    seconds = []
    for _ in range(3):
        begin = time.monotonic()
        try:
            response = api.post(
                "/search",
                content=pieces() if chunked else body,
                headers={"content-type": "application/json"},
            )
            assert response.status_code == 413
            assert f"{MAX_BODY:,} bytes" in detail(response)
        except httpx2.WriteError:  # refused and closed before all of it was sent
            pass
        seconds.append(time.monotonic() - begin)
    assert min(seconds) < 0.1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "citemark.example"}, 400),
        ({"host": "127.0.0.1.evil.example:8600"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"host": "localhost"}, 200),
    ],
)
def test_foreign_hosts_and_origins_are_refused(
    headers: dict[str, str], status: int, api: httpx2.Client
) -> None:
    response = api.post("/search", json={"text": "storm"}, headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_the_same_origin_may_ask(api: httpx2.Client) -> None:
    origin = str(api.base_url).rstrip("/")
    assert api.get("/health", headers={"origin": origin}).status_code == 200


def test_every_operation_is_described_with_an_example(api: httpx2.Client) -> None:
    described = api.get("/openapi.json").json()
    assert set(described["paths"]) == {
        *("/search", "/batch", "/paper", "/similar", "/cite", "/health", "/metrics")
    }
    for name in ("SearchRequest", "BatchRequest", "CiteRequest"):
        example = described["components"]["schemas"][name]["examples"][0]
        path = f"/{name.removesuffix('Request').lower()}"
        assert api.post(path, json=example).status_code in (200, 404)
    assert all(api.get(path).status_code == 404 for path in ("/docs", "/redoc"))


def test_the_api_keeps_to_its_description(api: httpx2.Client, tmp_path: Path) -> None:
    """Schemathesis makes up requests from the OpenAPI description, good and bad ones.

    Without its check that all good data is accepted: a text needs a word, which no JSON Schema can say
    for every script.
    """
    shown = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{api.base_url}/openapi.json"),
            *("--max-examples", "12", "--seed", "7", "--generation-deterministic", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"),
            *("--exclude-checks", "positive_data_acceptance"),
        ],
        cwd=tmp_path,
        env=environment(**QUIET),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout[-6000:] + shown.stderr[-2000:]
    assert "passed" in shown.stdout


def clients(
    count: int, seconds: float, url: str, headers: dict[str, str]
) -> tuple[Counter[int], list[float]]:
    """As many clients that search without a pause: the statuses, and the seconds of the good answers."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    lock, stop = threading.Lock(), time.monotonic() + seconds
    barrier = threading.Barrier(count)

    def client(number: int) -> None:
        with httpx2.Client(base_url=url, timeout=60, headers=headers) as client:
            barrier.wait(60)
            while time.monotonic() < stop:
                begin = time.monotonic()
                response = client.post("/search", json={"text": f"{SENTENCE} {number}", "k": 5})
                with lock:
                    statuses[response.status_code] += 1
                    if response.status_code == 200:
                        took.append(time.monotonic() - begin)
                if response.status_code == 429:
                    assert int(response.headers["retry-after"]) >= 1
                    time.sleep(0.2)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(client, number) for number in range(count)]:
            done.result()
    return statuses, took


def test_64_clients_are_all_answered(api: httpx2.Client) -> None:
    url = str(api.base_url)
    _, alone = clients(1, 2, url, {})
    statuses, took = clients(64, 6, url, {})
    single, p50, p99 = np.median(alone), *np.percentile(took, [50, 99])
    print(
        f"\none client: p50 {single * 1e3:.0f} ms; 64 clients: {len(took)} answers in 6 s, "
        f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms"
    )
    assert set(statuses) == {200}
    assert p99 <= 3 * 64 * single


TOKEN = {"authorization": "Bearer a secret"}


@pytest.fixture(scope="module")
def guarded(
    small_corpus: Path, tiny: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The address and index of a server that wants a token, with one worker and a queue of four."""
    folder = tmp_path_factory.mktemp("guarded")
    build(str(small_corpus), folder / "papers", tiny)
    options = ("--index", folder / "papers", "--device", "cpu", "--port", 0, "--workers", 1, "--queue", 4)
    with running(folder / "log", "serve", *options, CITEMARK_TOKEN="a secret") as (_, address):
        yield address, folder / "papers"


@pytest.mark.parametrize("given", ["", "Bearer wrong", "Bearer a secret2", "Basic a secret", "Bearer ä"])
def test_without_the_token_there_is_only_health(given: str, guarded: tuple[str, Path]) -> None:
    headers = [("authorization", given.encode())] if given else []
    for path in ("/metrics", "/openapi.json", "/paper?id=nobody"):
        response = httpx2.get(guarded[0] + path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    assert httpx2.get(f"{guarded[0]}/health").status_code == 200
    described = httpx2.get(f"{guarded[0]}/openapi.json", headers=TOKEN).json()
    assert described["security"] == [{"token": []}]


def test_what_is_too_much_at_once_is_told_when_to_come_again(guarded: tuple[str, Path]) -> None:
    statuses, took = clients(64, 3, guarded[0], TOKEN)
    assert set(statuses) == {200, 429}
    assert took


def test_a_new_index_is_taken_up_without_a_failed_request(
    guarded: tuple[str, Path], small_corpus: Path, papers: list[dict[str, Any]], tiny: Encoder
) -> None:
    url, index = guarded
    larger = small_corpus.with_name("larger.jsonl")
    larger.write_text("".join(json.dumps(paper) + "\n" for paper in papers[::5]), encoding="utf-8")
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(clients, 3, 8, url, TOKEN)
        for corpus in (larger, small_corpus, larger):
            build(str(corpus), index, tiny)
            time.sleep(0.7)
        statuses, _ = load.result()
    assert set(statuses) == {200}
    health = httpx2.get(f"{url}/health").json()
    assert (health["generation"], health["papers"]) == ("000004", 60)


def test_a_damaged_new_index_is_left_alone(guarded: tuple[str, Path]) -> None:
    url, index = guarded
    before = httpx2.get(f"{url}/health").json()
    damaged = index / "generations" / "000099"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{}")
    time.sleep(2.5)
    assert httpx2.get(f"{url}/health").json() == before
    answer = httpx2.post(f"{url}/search", json={"text": SENTENCE}, headers=TOKEN, timeout=60)
    assert answer.status_code == 200
    log = (index.parent / "log").read_text()
    assert log.count("is damaged") == 1  # said once, not every second


def test_a_stop_lets_running_requests_finish(small_index: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(log, "serve", "--index", small_index, "--device", "cpu", "--port", 0) as (process, url):
        texts = [f"{SENTENCE} {number}" for number in range(MAX_BATCH)]

        def ask() -> int:
            return httpx2.post(f"{url}/batch", json={"texts": texts}, timeout=60).status_code

        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask) for _ in range(6)]
            while "citemark_pending_requests 6.0" not in httpx2.get(f"{url}/metrics").text:
                assert not all(done.done() for done in asked)
            process.terminate()
            assert [done.result() for done in asked] == [200] * 6
        assert process.wait(30) == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{url}/health")


def test_an_address_that_others_can_reach_needs_a_token() -> None:
    with pytest.raises(UserError, match="CITEMARK_TOKEN"):
        ServeSettings(host="0.0.0.0")
    assert "0.0.0.0" in ServeSettings(host="0.0.0.0", token="a secret").hosts
    with pytest.raises(UserError, match="workers is 8, queue is 4"):
        ServeSettings(workers=8, queue=4)


def test_a_port_in_use_is_one_line(api: httpx2.Client, small_index: Path, invoke: Any) -> None:
    result = invoke("serve", "--index", small_index, "--port", api.base_url.port)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "choose another --port" in result.stderr
