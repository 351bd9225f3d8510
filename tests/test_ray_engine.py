"""The cluster engine: real Ray clusters on this machine, whose workers die; and what each part does alone."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import environment, made_up_papers, write_corpus

from data import corpus
from data.filter import Filter
from data.table import PaperTable
from indexer.build import build
from indexer.ray_engine import _read, _Worker
from indexer.shards import Folder, encode_shard
from model.encoder import Encoder

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'citemark[ray]'"
)
SHARD = 16
Process = Callable[..., "subprocess.CompletedProcess[str]"]

# Builds on a cluster, with small shards; says where its workers run, and what listens.
CLUSTER_BUILD = """
import json, sys
from pathlib import Path
import psutil
from indexer.build import build
from indexer.ray_engine import cluster
from model.encoder import Encoder

source, root, folder, shards, address, workers, shard = sys.argv[1:]
results = sys.stdout
with cluster(address, "cpu", int(workers)) as engine:
    import ray
    from ray._common.usage.usage_lib import usage_stats_enabled
    sockets = [c for p in psutil.Process().children(recursive=True) for c in p.net_connections()]
    facts = {
        "nodes": len(ray.nodes()),
        "reports": usage_stats_enabled(),
        "listens": sorted({c.laddr.ip.removeprefix("::ffff:") for c in sockets if c.status == "LISTEN"}),
    }
    print(json.dumps(facts), file=results, flush=True)
    encoder = Encoder(folder, "cpu", "fp32")
    generation, _ = build(source, Path(root), encoder, shard=int(shard), engine=engine, shards=shards)
print(generation.manifest.precision, flush=True)
"""


def content(folder: Path) -> dict[str, bytes]:
    """The shards of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 papers, so that something is left when a worker is killed."""
    papers = made_up_papers()
    many = [p | {"id": f"{p['id']}-{i}", "title": f"{p['title']} of {i}"} for i in range(10) for p in papers]
    return write_corpus(tmp_path_factory.mktemp("long") / "long.jsonl", many)


@pytest.fixture(scope="module")
def local_shards(long_corpus: Path, tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build without a cluster leaves of the long corpus."""
    folder = tmp_path_factory.mktemp("local")
    build(str(long_corpus), folder / "index", tiny, shard=SHARD, shards=str(folder / "shards"))
    return folder / "shards"


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_this_machine_gives_the_shards_of_a_local_build(
    small_corpus: Path,
    tiny: Encoder,
    tiny_folder: Path,
    tmp_path: Path,
    start: Callable[..., "subprocess.Popen[str]"],
) -> None:
    """It listens on the loopback alone and reports to nobody."""
    pytest.importorskip("psutil")
    url = (tmp_path / "cluster").as_uri()
    arguments = [small_corpus, tmp_path / "index", tiny_folder, url, "local", 1, SHARD]
    child = start("-c", CLUSTER_BUILD, *arguments)
    out, err = child.communicate(timeout=500)
    assert child.returncode == 0, err
    facts, precision = out.splitlines()
    assert json.loads(facts)["nodes"] == 1
    assert json.loads(facts)["reports"] is False
    assert set(json.loads(facts)["listens"]) <= {"127.0.0.1", "::1"}
    assert precision == "fp32 on cpu"
    build(str(small_corpus), tmp_path / "whole", tiny, shard=SHARD, shards=str(tmp_path / "local"))
    assert content(tmp_path / "cluster") == content(tmp_path / "local")
    assert len(content(tmp_path / "local")) == 2
    for name in ("vectors.faiss", "papers.arrow"):
        published = [tmp_path / index / "generations" / "000001" / name for index in ("index", "whole")]
        assert published[0].read_bytes() == published[1].read_bytes()


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes on this machine, of one core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback; see ray_engine
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second = cluster.add_node(**small)
    cluster.wait_for_nodes()
    yield cluster, second
    cluster.shutdown()


def workers_of(node: Any) -> list[int]:
    """The process ids of the node's actors that encode."""
    import psutil

    raylet = next(info[0].process.pid for kind, info in node.all_processes.items() if kind == "raylet")
    children = psutil.Process(raylet).children(recursive=True)
    return [p.pid for p in children if re.search(r"ray::.*_Worker", " ".join(p.cmdline()))]


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "node", "build"])
def test_a_build_on_two_nodes_outlives_what_is_killed(
    victim: str,
    two_nodes: Any,
    long_corpus: Path,
    local_shards: Path,
    tiny_folder: Path,
    tmp_path: Path,
    start: Callable[..., "subprocess.Popen[str]"],
) -> None:
    """An actor of the second node, the node itself, or the build, which is then run again."""
    cluster, second = two_nodes
    folder = tmp_path / "shards"
    folder.mkdir()
    arguments = [long_corpus, tmp_path / "index", tiny_folder, folder.as_uri(), cluster.address, 2, SHARD]
    child = start("-c", CLUSTER_BUILD, *arguments)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["nodes"] == 2
    until = time.monotonic() + 300
    while not (workers_of(second) and len(Folder(str(folder)).finished()) >= 5):
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            pytest.fail(f"the build did not get far enough: {child.communicate()}")
        time.sleep(0.01)
    if victim == "worker":
        os.kill(workers_of(second)[0], signal.SIGKILL)
    elif victim == "node":
        cluster.remove_node(second, allow_graceful=False)
    else:
        child.kill()
    finished = Folder(str(folder)).finished()
    assert 5 <= len(finished) < len(content(local_shards)), "it was over before anything was killed"
    out, err = child.communicate(timeout=500)
    if victim == "build":
        again = start("-c", CLUSTER_BUILD, *arguments)
        assert again.wait(500) == 0
        assert finished.items() <= Folder(str(folder)).finished().items()
    else:
        assert child.returncode == 0, err
        assert out.strip() == "fp32 on cpu"
    assert {n: b for n, b in content(folder).items() if n.endswith(".parquet")} == content(local_shards)


def test_without_ray_the_command_says_what_to_install(
    small_corpus: Path, tmp_path: Path, process: Process
) -> None:
    hidden = "import sys; sys.modules['ray'] = None; from indexer.cli import main; main()"
    done = process("-c", hidden, "build", small_corpus, "--index", tmp_path / "index", "--engine", "ray")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "indexer: --engine ray needs Ray; install it with: pip install 'citemark[ray]'\n"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--address", "auto"], 2, "--address and --workers need --engine ray"),
        (["--workers", "2"], 2, "--address and --workers need --engine ray"),
        (
            ["--engine", "ray", "--address", "ray://head:10001"],
            1,
            "--address ray://head:10001: a build reads",
        ),
        (["--engine", "ray", "--address", "127.0.0.1:1"], 1, "--address 127.0.0.1:1: nothing answers ("),
        (["--engine", "ray", "--address", "127.0.0.1:x"], 1, "--address 127.0.0.1:x: nothing answers ("),
        (["--engine", "spark"], 2, "'spark' is not one of 'local', 'ray'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: list[str], code: int, said: str, small_corpus: Path, invoke: Callable[..., Any], tmp_path: Path
) -> None:
    result = invoke("build", small_corpus, "--index", tmp_path / "index", *options)
    assert result.exit_code == code
    assert said in result.stderr


def test_an_actor_writes_what_a_local_build_writes(
    small_corpus: Path, tiny: Encoder, tiny_folder: Path, tmp_path: Path
) -> None:
    corpus.write(str(small_corpus), tmp_path / "papers.arrow", Filter())
    worker = _Worker((str(tiny_folder), "cpu", "fp32"), tiny.fingerprint, str(tmp_path))
    row = worker(_read({"key": "0a1b", "start": 4, "stop": 20}, str(tmp_path / "papers.arrow")))
    members = PaperTable(tmp_path / "papers.arrow").slice(4, 20)
    assert (row["key"], row["fault"]) == ("0a1b", "")
    assert (tmp_path / row["name"]).read_bytes() == encode_shard(members, tiny)


def test_an_actor_with_another_model_or_no_folder_says_so(
    small_corpus: Path, tiny: Encoder, tiny_folder: Path, tmp_path: Path
) -> None:
    corpus.write(str(small_corpus), tmp_path / "papers.arrow", Filter())
    papers = _read({"key": "0a1b", "start": 0, "stop": 4}, str(tmp_path / "papers.arrow"))
    for encoder, fingerprint, url, said in (
        (tiny_folder, "feedbeef", tmp_path, f"has fingerprint {tiny.fingerprint}, the build's has feedbeef"),
        (tmp_path / "none", tiny.fingerprint, tmp_path, "no such model folder"),
        (tiny_folder, tiny.fingerprint, tmp_path / "elsewhere", "give --shards a place that every machine"),
    ):
        row = _Worker((str(encoder), "cpu", "fp32"), fingerprint, str(url))(papers)
        assert row["name"] == ""
        assert row["fault"].startswith("the worker on ")
        assert said in row["fault"]
        assert "\n" not in row["fault"]
