"""Real short trainings through the command: what is trained, what is kept, what goes on after a kill."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from transformers import PreTrainedModel

from data.contexts import Context
from data.errors import UserError
from data.paper import Paper
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import Settings
from model.encoder import Encoder
from model.recipe import RECIPES, Recipe
from model.train import main
from model.training import base_model

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def contexts(papers: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train and dev contexts that name words of the title they cite."""
    choice = random.Random(4).choice
    rows = []
    for number in range(300):
        paper = choice(papers)
        words = paper["title"].split()
        text = f"As {words[1]} {words[2]} {words[-3]} {choice(words)} shows [CITE], and [OTHER]."
        rows.append({"text": text, "citing_id": papers[number % 60]["id"], "cited_id": paper["id"]})
    folder = tmp_path_factory.mktemp("contexts")
    files = folder / "train.jsonl", folder / "dev.jsonl"
    for file, part in zip(files, (rows[:220], rows[220:]), strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    return files


@pytest.fixture(scope="module")
def command(
    contexts: tuple[Path, Path],
    corpus_file: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, Result]]:
    """Run the command on the made-up data: command(*flags) gives the model folder and the result."""
    root = tmp_path_factory.mktemp("models")

    def run(*flags: object, out: Path | None = None) -> tuple[Path, Result]:
        out = out or root / f"model-{len(list(root.iterdir()))}"
        fixed = ["--corpus", corpus_file, "--dev", contexts[1], "--base", tiny_folder, "--out", out]
        fixed += ["--device", "cpu", "--vectors", root / "vectors", "--eval-papers", 50]
        arguments = [str(a) for a in (contexts[0], *fixed, *flags)]
        return out, CliRunner().invoke(main, arguments)

    return run


@pytest.fixture(scope="module")
def trained(command: Callable[..., tuple[Path, Result]]) -> Train:
    def run(*flags: object, **options: Any) -> Path:
        out, result = command(*flags, **options)
        assert result.exit_code == 0, result.output
        return out

    return run


FROZEN = (
    "--frozen-documents",
    "--batch",
    32,
    "--lr",
    1e-3,
    "--epochs",
    3,
    "--precision",
    "fp32",
    "--every",
    4,
)


@pytest.fixture(scope="module")
def frozen(trained: Train) -> Path:
    return trained(*FROZEN, "--marks", "keep")


ADAPTED = (*FROZEN, "--marks", "keep", "--document-adapter", 64, "--prior", 0.3, "--eval-papers", 0)


@pytest.fixture(scope="module")
def adapted(trained: Train) -> Path:
    return trained(*ADAPTED)


def curve(folder: Path, name: str) -> list[float]:
    values: list[float] = json.loads((folder / "curves.json").read_text())[name]["value"]
    return values


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def test_training_against_frozen_documents_lowers_the_loss_and_raises_recall(frozen: Path) -> None:
    loss, recall = curve(frozen, "loss"), curve(frozen, "hit@10")
    assert np.mean(loss[-3:]) < np.mean(loss[:3]) - 0.3
    assert max(recall[1:]) > recall[0] + 0.1


def test_only_the_query_branch_is_trained(frozen: Path, tiny_folder: Path) -> None:
    base = weights(tiny_folder)
    query, document = (weights(frozen / f"{name}_0_Transformer") for name in ("query", "document"))
    assert base.keys() == query.keys() == document.keys()
    assert all(np.array_equal(base[name], document[name]) for name in base)
    changed = [name for name in base if not np.array_equal(base[name], query[name])]
    assert len(changed) > len(base) / 2


def test_the_trained_folder_is_an_encoder_with_its_own_text_form(frozen: Path, tiny: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    encoder = Encoder(str(frozen), device="cpu", precision="fp32")
    assert encoder.marks == "keep"
    paper, context = Paper("p", "A title", "An abstract."), Context("As [OTHER] and [CITE] say.")
    assert np.allclose(encoder.encode_papers([paper]), tiny.encode_papers([paper]), atol=1e-6)
    plain = SentenceTransformer(str(frozen), device="cpu")
    expected = plain.encode_query(["As [OTHER] and [CITE] say."], normalize_embeddings=True)
    assert np.allclose(encoder.encode_contexts([context]), expected, atol=1e-5)
    assert not np.allclose(encoder.encode_contexts([context]), tiny.encode_contexts([context]), atol=1e-2)


def test_fingerprints_tell_the_text_form_and_the_branches_apart(frozen: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(frozen, other)
    (other / "citemark.json").write_text('{"marks": "drop"}')
    swapped = tmp_path / "swapped"
    shutil.copytree(frozen, swapped)
    for name, place in (("query", "document"), ("document", "query")):
        shutil.copy(frozen / f"{name}_0_Transformer/model.safetensors", swapped / f"{place}_0_Transformer")
    pooled = tmp_path / "pooled"
    shutil.copytree(frozen, pooled)
    config = json.loads((pooled / "query_1_Pooling/config.json").read_text())
    config |= {"pooling_mode": "cls"}
    (pooled / "query_1_Pooling/config.json").write_text(json.dumps(config))
    found = [Encoder(str(f), "cpu", "fp32").fingerprint for f in (frozen, other, swapped, pooled)]
    assert len(set(found)) == 4


def test_an_index_built_with_the_trained_folder_is_searched_with_it(
    frozen: Path, corpus_file: Path, tmp_path: Path
) -> None:
    encoder = Encoder(str(frozen), device="cpu", precision="fp32")
    build(str(corpus_file), tmp_path / "index", encoder)
    searcher = Searcher(Settings(index=tmp_path / "index", device="cpu"))
    hits = searcher.search([Context("As acoustic models shows [CITE].")], 3, "dense")[0]
    vector = encoder.encode_contexts([Context("As acoustic models shows [CITE].")])
    papers = encoder.encode_papers([hit.paper for hit in hits])
    assert [hit.dense for hit in hits] == pytest.approx((papers @ vector[0]).tolist(), abs=2e-2)


def test_the_folder_holds_no_pickle_and_a_card_with_the_numbers(frozen: Path) -> None:
    names = {file.name for file in frozen.rglob("*") if file.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert {"curves.png", "curves.json", "training.json", "citemark.json", "README.md"} <= names
    card = (frozen / "README.md").read_text()
    assert "220 rows" in card
    assert f"{max(curve(frozen, 'hit@10')[1:]):.3f}" in card
    assert (frozen / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_training_ends_with_the_weights_of_an_unbroken_one(
    frozen: Path, command: Callable[..., tuple[Path, Result]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from model.trainer import Watch

    def killed(self: Any, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step == 13:
            raise KeyboardInterrupt
        return control

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "on_step_end", killed)
        out, result = command(*FROZEN, "--marks", "keep", out=tmp_path / "broken")
    assert result.exit_code == 130
    assert "--resume" in result.output
    refused = command(*FROZEN, "--marks", "keep", out=out)[1]
    assert refused.exit_code == 1
    assert "not empty" in refused.output
    other = command(*FROZEN, "--marks", "drop", "--resume", out=out)[1]
    assert other.exit_code == 1
    assert "marks keep, not drop" in other.output
    result = command(*FROZEN, "--marks", "keep", "--resume", out=out)[1]
    assert result.exit_code == 0, result.output
    assert curve(out, "loss")[-1] == pytest.approx(curve(frozen, "loss")[-1], rel=1e-4)
    unbroken = weights(frozen / "query_0_Transformer")
    for name, found in weights(out / "query_0_Transformer").items():
        assert np.allclose(found, unbroken[name], atol=1e-5), name


def test_an_adapter_moves_the_documents_and_recall_rises(adapted: Path, tiny: Encoder) -> None:
    recall = curve(adapted, "hit@10")
    assert max(recall[1:]) > recall[0] + 0.1
    encoder = Encoder(str(adapted), device="cpu", precision="fp32")
    paper = Paper("p", "Deep acoustic models", "An abstract.")
    moved, base = encoder.encode_papers([paper]), tiny.encode_papers([paper])
    assert 0.1 < float(moved[0] @ base[0]) < 0.999


def test_the_adapted_folder_gives_the_vectors_that_were_measured_and_needs_no_code_of_ours(
    adapted: Path, contexts: tuple[Path, Path], corpus_file: Path, tmp_path: Path
) -> None:
    types = json.loads((adapted / "router_config.json").read_text())["types"].values()
    assert all(name.startswith("sentence_transformers.") for name in types)
    build(str(corpus_file), tmp_path / "index", Encoder(str(adapted), "cpu", "fp32"))
    searcher = Searcher(Settings(index=tmp_path / "index", device="cpu"))
    rows = [json.loads(line) for line in contexts[1].read_text().splitlines()]
    hits = searcher.search([Context(row["text"]) for row in rows], 10, "dense")
    found = [row["cited_id"] in {h.paper.paper_id for h in hs} for row, hs in zip(rows, hits, strict=True)]
    assert np.mean(found) == pytest.approx(
        max(curve(adapted, "hit@10")[1:]), abs=0.08
    )  # fewer candidates there


def test_a_resumed_training_with_an_adapter_ends_like_an_unbroken_one(
    adapted: Path,
    command: Callable[..., tuple[Path, Result]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from model.trainer import Watch

    def killed(self: Any, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step == 13:
            raise KeyboardInterrupt
        return control

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "on_step_end", killed)
        out, _ = command(*ADAPTED, out=tmp_path / "broken")
    result = command(*ADAPTED, "--resume", out=out)[1]
    assert result.exit_code == 0, result.output
    for part in ("query_0_Transformer", "document_3_Dense", "document_4_Dense"):
        unbroken = weights(adapted / part)
        for name, found in weights(out / part).items():
            assert np.allclose(found, unbroken[name], atol=1e-5), (part, name)


def test_both_sides_are_trained_by_contrast_with_everything_on(trained: Train, tiny_folder: Path) -> None:
    flags = ("--batch", 64, "--mini-batch", 16, "--lr", 1e-3, "--epochs", 2, "--hard-negatives", 2)
    out = trained(*flags, "--synthetic", 0.3, "--draft", 0.5, "--precision", "bf16")
    base, tuned = weights(tiny_folder), weights(out)
    assert any(not np.array_equal(base[name], tuned[name]) for name in base)
    loss = curve(out, "loss")
    assert np.mean(loss[-3:]) < np.mean(loss[:3])
    assert "draft hit@10" in json.loads((out / "curves.json").read_text())
    assert Encoder(str(out), "cpu", "fp32").marks == "drop"


def test_the_seed_recipe_trains_on_wrong_pairs_and_its_mend_does_not(trained: Train) -> None:
    noise = ("--recipe", "seed", "--noise", 0.8, "--max-steps", 4)
    defect, mended = (trained(*noise, *more) for more in ((), ("--labels-count",)))
    cards = [(folder / "README.md").read_text() for folder in (defect, mended)]
    assert "220 rows, 220 pairs" in cards[0]
    kept = int(cards[1].split("220 rows, ")[1].split(" pairs")[0])
    assert 20 < kept < 80
    recorded = json.loads((defect / "training.json").read_text())
    assert (recorded["batch"], recorded["lr"], recorded["epochs"], recorded["seed"]) == (16, 5e-5, 3.0, 42)


def test_equal_seeds_give_equal_weights(trained: Train) -> None:
    flags = ("--frozen-documents", "--max-steps", 3, "--precision", "fp32")
    one, two, other = (weights(trained(*flags, "--seed", s) / "query_0_Transformer") for s in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--base", "/no/such/model"), "--base /no/such/model"),
        (("--frozen-documents", "--hard-negatives", 2), "--hard-negatives does not go with it"),
        (("--synthetic", 1.5), "--synthetic is 1.5"),
        (("--epochs", -1), "--epochs is -1"),
        (("--corpus", "/no/corpus.jsonl"), "/no/corpus.jsonl"),
        (("--dev", "/no/dev.jsonl"), "/no/dev.jsonl"),
        (("--resume",), "no checkpoint to resume from"),
    ],
)
def test_faults_are_one_line_and_exit_1(
    flags: tuple[object, ...], said: str, command: Callable[..., tuple[Path, Result]]
) -> None:
    out, result = command(*flags)
    assert result.exit_code == 1
    assert said in result.output.splitlines()[-1]
    assert "Traceback" not in result.output
    assert not (out / "checkpoints").exists()


def test_wrong_usage_exits_2_and_help_is_quick() -> None:
    assert CliRunner().invoke(main, []).exit_code == 2
    assert "--frozen-documents" in CliRunner().invoke(main, ["--help"]).output


def test_a_recipe_is_settled_by_objective_and_device() -> None:
    assert Recipe().settled("cpu", "keep").marks == "keep"
    assert Recipe(marks="drop").settled("cpu", "keep").marks == "drop"
    assert Recipe().settled("cuda", "drop").batch > Recipe().settled("cpu", "drop").batch
    assert Recipe(frozen_documents=True).settled("cpu", "drop").lr == 1e-4
    with pytest.raises(UserError, match="--recipe seed"):
        Recipe(frozen_documents=True, seed_loss=True).settled("cpu", "drop")
    assert RECIPES["seed"].settled("cuda", "drop").batch == 16


def test_a_cpu_trains_with_plain_attention_and_without_its_dropout(tiny_folder: Path) -> None:
    model = base_model(Recipe(base=str(tiny_folder), frozen_documents=True), "cpu")
    networks = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    assert len(networks) == 2
    assert {network.config._attn_implementation for network in networks} == {"eager"}
    dropouts = {name: m.p for name, m in model.named_modules() if name.endswith("attention.self.dropout")}
    assert len(dropouts) == 4
    assert set(dropouts.values()) == {0.0}
