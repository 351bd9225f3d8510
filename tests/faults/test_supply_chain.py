"""Promise: nothing runs that came as data, and the packages are new enough and are looked up.

A canary is a pickle that makes a file when it is read. It is put wherever a model, an index or a corpus
has a file; whatever else happens, it must never sing. The last canary is read, to show that it can.
"""

import hashlib
import json
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, write_corpus
from packaging.requirements import Requirement
from packaging.version import Version
from proof import Proof, every_kind

from data.contexts import parse
from data.corpus import Reading, read
from data.errors import UserError
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from indexer.store import Manifest, Store
from indexer.update import Change, update
from model.encoder import Encoder

pytest_plugins = ["proof"]

# The first version without a hole that an attacker of this project could use: code that runs from a file,
# a host check that is not there, a parser that a request can stop.
SECURE = {
    "streamlit": "1.62",  # server.allowedHosts, st.App's middleware
    "torch": "2.6",  # torch.load with weights_only ran code
    "transformers": "4.53",
    "sentence-transformers": "6.0",  # local models ran code of their own
    "pyarrow": "14.0.1",  # extension types were pickles
    "datasets": "4.0",  # scripts of data sets were run
    "safetensors": "0.5",
    "starlette": "0.49.1",  # Range headers that take forever
    "h11": "0.16.0",  # request smuggling
    "python-multipart": "0.0.18",
    "Jinja2": "3.1.6",
    "urllib3": "2.6",
    "requests": "2.32.4",
    "certifi": "2024.7.4",
    "protobuf": "5.29.5",
    "pillow": "11.3",
    "defusedxml": "0.7.1",
    "PyYAML": "5.4",
}


SENTENCE = "tree search [CITE]"


class Canary:
    """What makes `nest` when somebody unpickles it."""

    def __init__(self, nest: Path) -> None:
        self.nest = nest

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.nest,)

    @property
    def egg(self) -> bytes:
        return pickle.dumps(self)

    @property
    def sang(self) -> bool:
        return self.nest.exists()


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "nest")


def test_a_canary_sings_when_it_is_read(canary: Canary) -> None:
    pickle.loads(canary.egg)
    assert canary.sang


CODE = "from pathlib import Path\nPath({nest!r}).touch()\nclass Canary:\n    pass\n"


def model_with(canary: Canary, tiny_folder: Path, where: Path, kind: str) -> None:
    """A copy of the tiny model with the canary in one of its places."""
    shutil.copytree(tiny_folder, where)
    if kind == "weights that are a pickle":
        (where / "pytorch_model.bin").write_bytes(canary.egg)
        (where / "model.safetensors").unlink()
    elif kind == "a pickle beside the weights":
        (where / "pytorch_model.bin").write_bytes(canary.egg)
    elif kind == "a pickle under the weights' name":
        (where / "model.safetensors").write_bytes(canary.egg)
    elif kind == "other pickles":
        for name in (
            "training_args.bin",
            "optimizer.pt",
            "tokenizer.pkl",
            "vocab.pkl",
            "model.pt",
            "rust_model.ot",
        ):
            (where / name).write_bytes(canary.egg)
    else:
        (where / "canary.py").write_text(CODE.format(nest=str(canary.nest)))
        if kind == "a module of its own":
            parts = json.loads((where / "modules.json").read_text())
            parts[0]["type"] = "canary.Canary"
            (where / "modules.json").write_text(json.dumps(parts))
        else:
            name = "tokenizer_config.json" if kind == "a tokenizer of its own" else "config.json"
            config = where / name
            settings = json.loads(config.read_text())
            settings["auto_map"] = dict.fromkeys(
                ("AutoModel", "AutoConfig", "AutoTokenizer"), "canary.Canary"
            )
            settings |= {"model_type": "canary", "tokenizer_class": "Canary"}
            config.write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("weights that are a pickle", True),
        ("a pickle beside the weights", False),
        ("a pickle under the weights' name", True),
        ("other pickles", False),
        ("a module of its own", True),
        ("a model of its own", True),
        ("a tokenizer of its own", None),  # the tokenizer's own file may do without
    ],
)
def test_no_canary_in_a_model_sings(
    kind: str, refused: bool | None, canary: Canary, tiny_folder: Path, tmp_path: Path
) -> None:
    model_with(canary, tiny_folder, tmp_path / "model", kind)
    said = ""
    try:
        Encoder(str(tmp_path / "model"), "cpu", "fp32")
    except UserError as error:
        said = str(error)
    assert refused is None or bool(said) == refused, said
    assert "\n" not in said
    assert not canary.sang


def signed(root: Path) -> None:
    """Write the index's checksums anew: whoever can put files there can do that too."""
    (path,) = root.rglob("manifest.json")
    body = json.loads(path.read_bytes())
    for name, listed in body["files"].items():
        raw = (path.parent / name).read_bytes()
        listed |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    del body["sha256"]
    path.write_bytes(Manifest(**body).to_bytes())


@pytest.mark.parametrize("shape", ["a pickle", "an array of objects"])
def test_no_canary_in_an_index_sings(
    shape: str, canary: Canary, papers: list[dict[str, Any]], tiny: Encoder, tmp_path: Path, proof: Proof
) -> None:
    """In the place of every file but the manifest, which would name it damaged before it is opened."""
    index = every_kind(papers[::10], tiny, tmp_path)
    for use in uses(shutil.copytree(index, tmp_path / "whole"), tiny):
        use()
    names = sorted(Store(index).open().manifest.files)
    for number, name in enumerate(names):
        root = shutil.copytree(index, tmp_path / str(number))
        file = Store(root).open().path / name
        if shape == "a pickle":
            file.write_bytes(canary.egg)
        else:
            with file.open("wb") as target:
                np.save(target, np.array([canary], dtype=object), allow_pickle=True)
        signed(root)
        for use in uses(root, tiny):
            with suppress(Exception):  # whole by its checksums and nonsense inside: it may fail anyhow
                use()
        proof.check(not canary.sang, name)
    proof.note = f"{len(names)} files"
    proof.end(f"no code from an index: {shape}", 20)


def uses(root: Path, encoder: Encoder) -> Iterator[Callable[[], object]]:
    """What reads the files of an index: every kind of search, a record, an update."""
    for ranking in RANKINGS:
        yield lambda ranking=ranking: Searcher(Settings(root), encoder).search(parse(SENTENCE), 1, ranking)
    yield lambda: Searcher(Settings(root), encoder).snapshot.papers[0]
    yield lambda: Searcher(Settings(root), encoder).snapshot.load()
    more = write_corpus(root.with_suffix(".jsonl"), [{"id": "x", "title": "Tree search"}])
    yield lambda: update(root, Change(source=str(more)), encoder)


def test_no_canary_in_a_corpus_sings(canary: Canary, tmp_path: Path) -> None:
    field = pa.field(
        "title",
        pa.string(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": canary.egg,
        },
    )
    table = pa.table(
        {"title": ["A paper"]}, schema=pa.schema([field], {b"pandas": canary.egg, b"huggingface": canary.egg})
    )
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("b.jsonl", "c.csv", "d.bib", "e.json", "f.parquet", "g.jsonl.gz"):
        (tmp_path / name).write_bytes(canary.egg)
    read_some = 0
    for path in sorted(tmp_path.glob("?.*")):
        with suppress(UserError):
            read_some += len(list(read(str(path), Reading())))
    assert read_some == 1  # the one that is a paper
    assert not canary.sang


def test_a_folder_with_code_is_no_data_set_that_runs(canary: Canary, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "corpus.py").write_text(CODE.format(nest=str(canary.nest)))
    (folder / "conftest.py").write_text(CODE.format(nest=str(canary.nest)))
    with pytest.raises(UserError):
        list(read(str(folder), Reading()))
    assert not canary.sang


SNIPPETS = (
    "import pickle\npickle.load(f)",
    "from pickle import loads",
    "import dill",
    "import joblib",
    "import shelve",
    "import marshal\nmarshal.loads(b)",
    "import torch\ntorch.load(f)",
    "from torch import load",
    "import pandas\npandas.read_pickle(f)",
    "import yaml\nyaml.load(f)",
    "eval(text)",
    "exec(text)",
    "import os\nos.system(text)",
    "import subprocess\nsubprocess.run(text, shell=True)",
    "import streamlit as st\nst.html(text)",
    "import streamlit.components.v1 as c\nc.html(text)",
)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_linter_refuses_what_runs_data(snippet: str) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    ran = subprocess.run(
        [ruff, "check", "--no-cache", "--output-format", "concise", "--stdin-filename", "data/x.py", "-"],
        input=snippet, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.search(r" (?:S\d+|TID251) ", ran.stdout), ran.stdout + ran.stderr


def project() -> dict[str, Requirement]:
    """What pyproject.toml asks for, all extras together."""
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*described["dependencies"], *chain(*described["optional-dependencies"].values())]
    return {(wanted := Requirement(line)).name: wanted for line in lines}


@pytest.mark.parametrize("package", SECURE)
def test_no_version_with_a_known_hole_is_accepted(package: str) -> None:
    least = Version(SECURE[package])
    wanted = project().get(package)
    if wanted:  # pip may take the lowest that it allows
        (floor,) = (Version(each.version) for each in wanted.specifier if each.operator in (">=", "=="))
        assert floor >= least
    pinned = re.findall(rf"^{re.escape(package)}==(.+)$", (ROOT / "constraints.txt").read_text(), re.M | re.I)
    assert [Version(each) >= least for each in pinned] == [True]
    with suppress(PackageNotFoundError):
        assert Version(version(package)) >= least


def test_what_is_installed_is_what_the_project_asks_for() -> None:
    for name, wanted in project().items():
        if name not in ("citemark", "faiss-gpu"):
            with suppress(PackageNotFoundError):
                assert wanted.specifier.contains(version(name), prereleases=True), name


REPORT = {
    "dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b-c", "version": "2", "vulns": []}]
}
HOLE = {"id": "PYSEC-1", "fix_versions": ["3"]}


@pytest.mark.parametrize(
    ("report", "status", "says"),
    [
        (REPORT, 0, "2 packages, no known vulnerability"),
        ({"dependencies": REPORT["dependencies"][:1]}, 1, "1 of 2 packages not audited: b_c"),
        (
            {
                "dependencies": [
                    REPORT["dependencies"][0],
                    {"name": "b_c", "skip_reason": "not found on PyPI"},
                ]
            },
            1,
            "1 of 2 packages not audited: b_c (not found on PyPI)",
        ),
        (
            {"dependencies": [REPORT["dependencies"][0], {"name": "b_c", "version": "2", "vulns": [HOLE]}]},
            1,
            "PYSEC-1",
        ),
        (None, 1, "FAILED: pip-audit gave no report (no route to host)"),
    ],
)
def test_an_audit_that_did_not_happen_is_no_clean_one(
    report: object, status: int, says: str, tmp_path: Path
) -> None:
    tool, pins = tmp_path / "pip-audit", tmp_path / "constraints.txt"
    pins.write_text("# pins\na==1\nb_c==2\n")
    shown = f"echo '{json.dumps(report)}'" if report else "echo 'no route to host' >&2; exit 1"
    tool.write_text(f"#!/bin/sh\n{shown}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    ran = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit", tool, pins], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, says in ran.stdout) == (status, True), ran.stdout + ran.stderr
    assert ran.stdout.count("\n") == 1
