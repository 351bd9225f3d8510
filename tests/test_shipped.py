"""The weights that ship: small, checked, and the same function as the folder they were packed from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load, safe_open

from data.contexts import Context
from data.errors import UserError
from data.paper import Paper
from model import shipped
from model.adapter import add_adapter, without_adapter
from model.encoder import MINILM_FILES, Encoder
from model.recipe import Recipe
from model.text import write_marks
from model.training import base_model

CONTEXTS = [Context("We optimise with Adam [CITE]."), Context("As [OTHER] and [CITE] show, depth helps.")]
PAPERS = [
    Paper("a", "Adam: A Method for Stochastic Optimization", "A first-order method."),
    Paper("r", "Deep Residual Learning", "Residual networks are easier to train."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained") / "model", 3)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained") / "model", 4)


def trained(folder: Path, seed: int) -> Path:
    """A model folder as training writes it, with random differences from the base."""
    torch.manual_seed(seed)
    model = base_model(Recipe(frozen_documents=True, document_adapter=32, freeze_words=True), "cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or "pooler" in name:
                continue
            parameter += torch.randn_like(parameter) * 5e-3
    without_adapter(model)
    model.save_pretrained(str(folder), create_model_card=False)
    write_marks(folder, "keep")
    return folder


def test_the_shipped_weights_are_the_default_and_differ_for_queries_and_papers(encoder: Encoder) -> None:
    base = Encoder("minilm")
    assert encoder.name == "citemark"
    assert encoder.marks == "keep"
    assert encoder.fingerprint != base.fingerprint
    for ours, theirs in (
        (encoder.encode_contexts(CONTEXTS), base.encode_contexts(CONTEXTS)),
        (encoder.encode_papers(PAPERS), base.encode_papers(PAPERS)),
    ):
        assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-3)
        assert not np.allclose(ours, theirs, atol=5e-2)


def test_the_shipped_file_is_small_and_names_its_base() -> None:
    assert shipped.FILE.stat().st_size < 15e6
    with safe_open(shipped.FILE, "pt") as file:
        assert file.metadata()["base"] == MINILM_FILES["model.safetensors"]


def test_packed_weights_are_the_function_of_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = as_shipped(shipped.pack([folder], strength=1.0), tmp_path, monkeypatch)
    assert_one_function(packed, Encoder(str(folder), "cpu", "fp32"))


def as_shipped(raw: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """The default encoder as it were if these bytes shipped."""
    (folder / "shipped").write_bytes(raw)
    monkeypatch.setattr(shipped, "FILE", folder / "shipped")
    monkeypatch.setattr(shipped, "SHA256", shipped.digest(raw))
    return Encoder("citemark", "cpu", "fp32")


def assert_one_function(packed: Encoder, whole: Encoder) -> None:
    assert packed.marks == whole.marks == "keep"
    for ours, theirs in (
        (packed.encode_contexts(CONTEXTS), whole.encode_contexts(CONTEXTS)),
        (packed.encode_papers(PAPERS), whole.encode_papers(PAPERS)),
    ):
        assert float((ours * theirs).sum(1).min()) > 0.9999


def test_two_folders_become_the_mean_of_both(
    folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = as_shipped(shipped.pack([folder, other], strength=1.0), tmp_path, monkeypatch)
    base, *each = (Encoder(name, "cpu", "fp32") for name in ("minilm", str(folder), str(other)))
    for name, parameter in shipped._network(packed.model[0].sub_modules["query"]).named_parameters():
        mean = sum(dict(m.model.named_parameters())[f"0.sub_modules.query.0.model.{name}"] for m in each) / 2
        assert torch.allclose(parameter, mean, atol=2e-4), name
    # A document moves as far as both adapters move it on average, before its length is one again.
    start = base.encode_papers(PAPERS)
    moved = [m.encode_papers(PAPERS) for m in each]
    alone = [load(shipped.pack([f], strength=1.0)) for f in (folder, other)]
    steps = [_step(adapter, torch.from_numpy(start)).numpy() for adapter in alone]
    expected = start + (steps[0] + steps[1]) / 2
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = packed.encode_papers(PAPERS)
    assert float((found * expected).sum(1).min()) > 0.9999
    assert all(float((found * m).sum(1).max()) < 0.99999 for m in moved)


def test_a_mean_becomes_a_model_folder_of_the_same_function(
    folder: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [str(folder), str(other), "--folder", str(tmp_path / "mean")]
    result = CliRunner().invoke(shipped.main, args)
    assert result.exit_code == 0, result.output
    packed = as_shipped(shipped.pack([folder, other]), tmp_path, monkeypatch)
    assert_one_function(packed, Encoder(str(tmp_path / "mean"), "cpu", "fp32"))


def _step(adapter: dict[str, torch.Tensor], vectors: torch.Tensor) -> torch.Tensor:
    part = {name: adapter[f"document.{name}"].float() for name in ("up.weight", "up.bias", "down.weight")}
    hidden = torch.relu(vectors * vectors.shape[1] ** 0.5 @ part["up.weight"].T + part["up.bias"])
    return hidden @ part["down.weight"].T + adapter["document.down.bias"].float()


def test_folders_of_other_marks_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "dropped")
    write_marks(tmp_path / "dropped", "drop")
    with pytest.raises(UserError, match="--marks"):
        shipped.pack([folder, tmp_path / "dropped"])


def test_the_strength_scales_what_the_adapter_does(folder: Path) -> None:
    half, whole = (load(shipped.pack([folder], strength)) for strength in (0.5, 1.0))
    assert half.keys() == whole.keys()
    for name, tensor in whole.items():
        factor = 0.5 if name.startswith("document.down") else 1
        assert torch.allclose(half[name].float(), tensor.float() * factor, atol=1e-3), name


def test_changed_weights_are_refused_with_both_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bytearray(shipped.FILE.read_bytes())
    raw[len(raw) // 2] ^= 1
    file = tmp_path / "citemark.safetensors"
    file.write_bytes(raw)
    monkeypatch.setattr(shipped, "FILE", file)
    with pytest.raises(UserError, match=f"expected {shipped.SHA256}") as refused:
        Encoder("citemark", "cpu")
    assert shipped.digest(bytes(raw)) in str(refused.value)
    file.unlink()
    with pytest.raises(UserError, match="--encoder minilm"):
        Encoder("citemark", "cpu")


def test_a_folder_that_was_trained_otherwise_cannot_be_packed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="document-adapter"):
        shipped.pack([tmp_path])
    plain = base_model(Recipe(frozen_documents=True), "cpu")
    add_adapter(plain, 8)
    with torch.no_grad():
        next(p for n, p in plain.named_parameters() if "query" in n and "word_embeddings" in n).add_(0.1)
    without_adapter(plain)
    plain.save_pretrained(str(tmp_path / "words"), create_model_card=False)
    write_marks(tmp_path / "words", "keep")
    with pytest.raises(UserError, match="--freeze-words"):
        shipped.pack([tmp_path / "words"])


def test_the_card_tells_the_numbers_and_the_digest() -> None:
    card = (shipped.FILE.parent / "README.md").read_text(encoding="utf-8")
    assert shipped.SHA256 in card
