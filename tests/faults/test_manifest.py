"""A wrong model, dimension or version is refused with both values; another version is not called damage."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from conftest import Maker
from proof import Proof
from sketch import Sketcher

import indexer.search
from indexer.store import FORMAT, Manifest, Store, _digest_of
from model.encoder import Encoder

pytest_plugins = ["proof"]

Invoke = Callable[..., Result]
FIELDS = [f.name for f in fields(Manifest)]
# Facts that no other part of an index can contradict: only their kind is checked.
TOLD = {"encoder", "precision", "source", "kept", "created", "seconds", "reading", "vectors"}
# field: (another value, what the message says besides the two values)
BOUND: dict[str, tuple[Any, str]] = {
    "papers": (31, "says papers"),
    "dimension": (33, "says dimension"),
    "metric": ("euclidean distance", "says metric"),
    "corpus_hash": ("0" * 24, "says corpus_hash"),
    "encoder_fingerprint": ("0" * 16, "was built with encoder"),
    "text_form": ("0", "was built with text form"),
}


@pytest.fixture
def root(sketched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(indexer.search, "Encoder", Sketcher)
    return shutil.copytree(sketched, tmp_path / "index")


def body_of(root: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((root / "generations" / "000001" / "manifest.json").read_bytes())
    return body


def write(root: Path, body: dict[str, Any], *, sealed: bool) -> None:
    """Write a manifest; `sealed` with the digest that belongs to it."""
    if sealed:
        del body["sha256"]
        body["sha256"] = _digest_of(body)
    text = json.dumps(body, indent=1, sort_keys=True)
    (root / "generations" / "000001" / "manifest.json").write_text(text)


def refusal(invoke: Invoke, root: Path) -> str:
    """The line that a search is refused with; what else happens, where it is not."""
    said = invoke("search", "--index", root, "--device", "cpu", "--json", "A gripper [CITE]")
    if said.exit_code != 1 or said.stdout or said.stderr.count("\n") != 1:
        return f"NOT REFUSED: exit {said.exit_code}, {said.output[:200]} {said.exception!r}"
    return said.stderr


def others(value: Any) -> Iterator[Any]:
    """Other values: of the same kind, of other kinds, the edges."""
    if isinstance(value, str):
        yield from (value[:-1], value + " ", value.upper() if value != value.upper() else value.lower())
    elif isinstance(value, dict):
        yield from ({}, value | {"another": 1})
    else:
        yield from (value + 1, -value - 1, 10**30)
    yield from (None, [value], True, "", 1.5)


def test_no_field_may_be_changed(root: Path, invoke: Invoke, proof: Proof) -> None:
    """By chance or by hand: the manifest's own digest covers every field, and both digests are shown."""
    whole = body_of(root)
    for name in (*FIELDS, "sha256"):
        for value in others(whole[name]):
            if (type(value), value) == (type(whole[name]), whole[name]):
                continue
            write(root, whole | {name: value}, sealed=False)
            stated, found = str(value if name == "sha256" else whole["sha256"])[:16], "sha256 "
            said = refusal(invoke, root)
            both = f"written as {stated})" in said and found in said and "manifest.json is damaged (" in said
            proof.check(both, f"{name} {value!r}: {said}")
        missing = {key: kept for key, kept in whole.items() if key != name}
        for changed in (missing, whole | {name + " ": 1}):
            write(root, changed, sealed=False)
            said = refusal(invoke, root)
            proof.check("manifest.json is damaged (" in said, f"without {name}: {said}")
    write(root, whole, sealed=False)
    assert Store(root).open()
    proof.end("a field of the manifest, changed", 150)


def test_a_manifest_of_something_else_is_refused_with_both_values(
    root: Path, invoke: Invoke, proof: Proof
) -> None:
    """The manifest is whole, and the index is not what it says."""
    whole = body_of(root)
    assert set(BOUND) | TOLD | {"format", "files"} == set(FIELDS)
    for name, (value, words) in BOUND.items():
        write(root, whole | {name: value}, sealed=True)
        said = refusal(invoke, root)
        both = f" {whole[name]}" in said and f" {value}" in said and words in said
        proof.check(both and "indexer build" in said and "damaged" not in said, f"{name}: {said}")
    for name in FIELDS:
        for value in ([whole[name]], None, True):
            write(root, whole | {name: value}, sealed=True)
            said = refusal(invoke, root)
            known = name == "format" and value is True  # JSON's true is Python's 1
            refused = f"manifest.json is damaged ({name} is " in said or (
                name == "format" and "damaged" in said
            )
            proof.check(refused or known, f"{name} {value!r}: {said}")
    proof.end("wrong model, dimension or kind", 40)


def test_another_version_is_not_called_damage(root: Path, invoke: Invoke, proof: Proof) -> None:
    whole = body_of(root)
    for number, age in [(0, "an older"), (-5, "an older"), (FORMAT + 1, "a newer"), (10**9, "a newer")]:
        for change in ({}, {"a field of then": [1]}, {"papers": "thirty"}):
            write(root, whole | change | {"format": number}, sealed=True)
            said = refusal(invoke, root)
            both = f"{age} version of Citemark (format {number}, this one reads {FORMAT})" in said
            proof.check(both and "damaged" not in said and "indexer build" in said, f"{number}: {said}")
    proof.end("another version", 12)


def test_a_file_that_the_manifest_tells_otherwise_is_refused(
    root: Path, invoke: Invoke, proof: Proof
) -> None:
    whole = body_of(root)
    for name, entry in whole["files"].items():
        other = "0" * 64
        write(root, whole | {"files": whole["files"] | {name: entry | {"sha256": other}}}, sealed=True)
        said = refusal(invoke, root)
        proof.check(
            f"{name} is damaged (" in said and entry["sha256"][:16] in said and other[:16] in said, said
        )
        write(root, whole | {"files": whole["files"] | {f"{name}x": entry}}, sealed=True)
        said = refusal(invoke, root)
        proof.check(f"{name}x is missing; " in said, said)
    proof.end("files of the manifest", 10)


@pytest.mark.faults
def test_a_model_that_was_exchanged_is_refused_with_both_fingerprints(
    make_model: Maker, tiny: Encoder, small_index: Path, invoke: Invoke, tmp_path: Path, proof: Proof
) -> None:
    """The folder has its name and other weights: of the same shape, of another, of another kind."""
    root = shutil.copytree(small_index, tmp_path / "index")
    whole = body_of(root)
    for kind, dimension in (("bert", 32), ("bert", 64), ("roberta", 32)):
        write(root, whole | {"encoder": str(make_model(kind, dimension, seed=5))}, sealed=True)
        said = refusal(invoke, root)
        both = f"was built with encoder {tiny.fingerprint} (" in said and ", this is " in said
        proof.check(both and "indexer build" in said, said)
    proof.end("wrong model", 3)
