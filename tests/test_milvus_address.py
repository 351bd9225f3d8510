"""Addresses of Milvus, the one setting that chooses the engine, and a core that does without pymilvus."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from conftest import ROOT

from data.errors import UserError
from indexer.commands_milvus import KIND_NAMES
from indexer.milvus import KINDS, kind_for
from indexer.milvus_address import parse
from indexer.settings import Settings, from_environment


@pytest.mark.parametrize(
    ("text", "uri", "database", "collection"),
    [
        ("milvus://localhost/papers", "http://localhost:19530", "", "papers"),
        ("milvus://10.0.0.7:9000/papers", "http://10.0.0.7:9000", "", "papers"),
        ("milvus+https://a.example.org:443/lab/arxiv_26", "https://a.example.org:443", "lab", "arxiv_26"),
        ("milvus://[::1]:19530/papers", "http://[::1]:19530", "", "papers"),
        ("milvus:///srv/my%20papers.db/papers", "/srv/my papers.db", "", "papers"),
    ],
)  # fmt: skip
def test_an_address_names_a_server_or_a_file_and_a_collection(
    text: str, uri: str, database: str, collection: str
) -> None:
    address = parse(text)
    assert (address.uri, address.database, address.collection) == (uri, database, collection)
    assert address.local == uri.endswith(".db")
    assert str(address) == text


def test_search_parameters_follow_the_collection() -> None:
    assert parse("milvus://localhost/papers?ef=512&drop=0.5").params == (("ef", 512), ("drop", 0.5))


@pytest.mark.parametrize(
    "text",
    [
        "milvus://localhost",
        "milvus://localhost/",
        "milvus://localhost/two-words",
        "milvus://localhost/a/b/c",
        "milvus://localhost:port/papers",
        "milvus://localhost/papers?ef=much",
        "milvus:///srv/papers",
        "milvus:///papers.db",
        "milvus+https:///srv/papers.db/papers",
        "http://localhost:19530/papers",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(text)
    assert "\n" not in str(refused.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match="CITEMARK_MILVUS_TOKEN") as refused:
        parse("milvus://root:hunter2@localhost/papers")
    assert "hunter2" not in str(refused.value)


def test_the_engine_is_one_setting() -> None:
    assert from_environment({}).engine == "local"
    assert from_environment({"CITEMARK_ENGINE": "milvus://host/papers"}).engine == "milvus://host/papers"
    with pytest.raises(UserError, match="engine is 'qdrant', not local and no address of Milvus"):
        Settings(engine="qdrant")
    with pytest.raises(UserError, match="milvus://HOST:19530/COLLECTION"):
        Settings(engine="milvus://host")


def test_without_pymilvus_the_commands_say_what_to_install(
    invoke: Callable[..., Result], small_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    result = invoke("publish", "--index", small_index, "--to", "milvus://localhost/papers")
    assert result.exit_code == 1
    assert "needs pymilvus, which is not installed; pip install 'citemark[milvus]'" in result.stderr
    result = invoke("search", "storm", "--index", small_index, "--engine", "milvus:///tmp/papers.db/papers")
    assert result.exit_code == 1
    assert "needs milvus-lite, which is not installed; pip install 'citemark[milvus-lite]'" in result.stderr


def test_the_core_loads_no_pymilvus() -> None:
    code = "import sys, indexer.cli, indexer.search, indexer.publish; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "indexer.search" in loaded.stdout.split()
    assert not {"pymilvus", "milvus_lite", "grpc"} & set(loaded.stdout.split())


def test_the_command_offers_every_kind_of_index() -> None:
    assert tuple(KINDS) == KIND_NAMES


def test_a_kind_is_chosen_by_the_number_of_papers() -> None:
    assert [kind_for(n) for n in (0, 10**6, 10**6 + 1, 5 * 10**7, 25 * 10**7)] == [
        "flat", "flat", "hnsw", "hnsw", "diskann"
    ]  # fmt: skip


def test_the_depth_of_a_search_covers_the_papers_asked_for() -> None:
    for k in (1, 10, 300, 1000):
        assert KINDS["hnsw"].search(k)["ef"] >= k
        assert KINDS["diskann"].search(k)["search_list"] >= k
        assert KINDS["gpu-cagra"].search(k)["itopk_size"] >= k
    assert all(d % KINDS["ivf-pq"].build(d)["m"] == 0 for d in (1, 33, 384, 768))
