"""The reranker: how pairs are read, scored and trained, with a tiny model and the real command."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from data.contexts import CITE, Context
from data.errors import UserError
from data.paper import Paper
from model.encoder import Encoder
from model.reranker import Reranker, headed
from model.reranker_training import RerankerRecipe, _lists, gather
from model.text import CONTEXT_WORDS, PAPER_WORDS, pair_texts
from model.train_reranker import main
from model.training_data import read_documents

CONTEXTS = [Context("We optimise with Adam [CITE]."), Context("As [OTHER] and [CITE] show, depth helps.")]
PAPERS = [
    Paper("a", "Adam: A Method for Stochastic Optimization", "A first-order method."),
    Paper("r", "Deep Residual Learning", "Residual networks are easier to train. " * 9),
]
Command = Callable[..., tuple[Path, Result]]


def test_a_pair_is_the_words_around_the_mark_and_the_beginning_of_the_paper() -> None:
    words = [f"w{n}" for n in range(100)]
    for place in (0, 5, 50, 99):
        text = " ".join([*words[:place], CITE, *words[place:]])
        context, paper = pair_texts(Context(text), Paper("p", "A Title", " ".join(words)))
        assert CITE in context.split()
        assert context in text
        assert len(context.split()) == CONTEXT_WORDS
        assert paper.startswith("A Title. w0 w1")
        assert len(paper.split()) == PAPER_WORDS
    assert pair_texts(Context("no mark"), Paper("p", "T", "")) == ("no mark", "T")
    assert pair_texts(Context(" ".join(words)), PAPERS[0])[0] == " ".join(words[:CONTEXT_WORDS])


@pytest.fixture(scope="module")
def files(papers: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Contexts that cite one of eight papers, and a run that has it among random ones."""
    rng = random.Random(4)
    folder = tmp_path_factory.mktemp("asked")
    contexts, run = folder / "contexts.jsonl", folder / "run.txt"
    rows, lines = [], []
    for number in range(60):
        paper = rng.choice(papers[:8])
        words = paper["title"].split()
        text = f"As {words[1]} {words[2]} {words[-1]} number {number} shows [CITE]."
        rows.append({"text": text, "citing_id": papers[number % 20]["id"], "cited_id": paper["id"]})
        found = rng.sample([p["id"] for p in papers[:300]], 30)
        if paper["id"] not in found:
            found[20] = paper["id"]
        lines += [f"q{number} Q0 {paper_id} {r} {100 - r} hybrid\n" for r, paper_id in enumerate(found, 1)]
    contexts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run.write_text("".join(lines), encoding="utf-8")
    return contexts, run


@pytest.fixture(scope="module")
def command(
    files: tuple[Path, Path],
    corpus_file: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Command:
    """Run the command on the made-up data: command(*flags) gives the model folder and the result."""
    root = tmp_path_factory.mktemp("rerankers")

    def run(*flags: object, out: Path | None = None) -> tuple[Path, Result]:
        out = out or root / f"model-{len(list(root.iterdir()))}"
        fixed = ["--corpus", corpus_file, "--candidates", files[1], "--base", tiny_folder, "--out", out]
        fixed += ["--device", "cpu", "--precision", "fp32", "--batch", 20, "--negatives", 4, "--lr", 3e-3]
        return out, CliRunner().invoke(main, [str(a) for a in (files[0], *fixed, *flags)])

    return run


@pytest.fixture(scope="module")
def trained(command: Command, files: tuple[Path, Path]) -> tuple[Path, Result]:
    dev = ("--dev", files[0], "--dev-candidates", files[1], "--dev-queries", 30)
    folder, result = command("--max-steps", 40, *dev)
    assert result.exit_code == 0, result.output
    return folder, result


def loss(folder: Path) -> list[float]:
    values: list[float] = json.loads((folder / "curves.json").read_text())["loss"]["value"]
    return values


def test_training_lowers_the_loss_and_says_what_it_brings(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    course = loss(folder)
    assert np.mean(course[-3:]) < np.mean(course[:3]) - 0.3
    assert "60 rows, 60 contexts" in result.output
    name, after, *_, before = result.output.replace(")", "").splitlines()[-2].split()
    assert name == "MRR"
    assert float(after) > float(before)
    assert not (folder / "checkpoints").exists()


def test_word_vectors_stay_and_the_rest_is_trained(trained: tuple[Path, Result], tiny_folder: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_folder, trained[0]))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("embeddings.")} <= same
    assert all(name in same or name.startswith("encoder.") for name in before)
    assert len(same) < len(before) / 2


def test_a_resumed_training_ends_with_the_weights_of_an_unbroken_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model import reranker_training

    flags = ("--max-steps", 6, "--every", 3)
    whole, result = command(*flags)
    assert result.exit_code == 0, result.output

    class Killed(reranker_training.Watch):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reranker_training, "Watch", Killed)
        out, killed = command(*flags)
    assert killed.exit_code == 130
    _, other = command(*flags, "--seed", 1, "--resume", out=out)
    assert other.exit_code == 1
    assert "seed" in other.output
    _, resumed = command(*flags, "--resume", out=out)
    assert resumed.exit_code == 0, resumed.output
    for part in ("model.safetensors", "2_Dense/model.safetensors"):
        ours, theirs = load_file(out / part), load_file(whole / part)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_no_negative_is_cited_by_the_context_or_its_paper(
    files: tuple[Path, Path], corpus_file: Path
) -> None:
    documents = read_documents(str(corpus_file))
    keys = documents.keys()
    asked = gather(str(files[0]), files[1], documents, keys)
    cited: dict[str, set[int]] = {}
    for citing, answers in zip(asked.examples.citing, asked.examples.answers, strict=True):
        cited.setdefault(citing, set()).update(answers.tolist())
    lists = list(_lists(asked, keys, RerankerRecipe(epochs=2, negatives=5, random=2)))
    assert len(lists) == 2 * 60
    for number, answer, *negatives in lists:
        assert answer in asked.examples.answers[number]
        assert not set(negatives) & cited[asked.examples.citing[number]]
        assert len(set(negatives)) == 5
        assert len(set(negatives) & set(asked.candidates[number].tolist())) >= 3
    assert lists[:60] != lists[60:]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--candidates", "absent.txt"), "absent.txt"),
        (("--random", 9), "--random 9 is more than --negatives 4"),
        (("--warmup", 3), "--warmup is 3"),
    ],
)
def test_faults_are_one_line(command: Command, flags: tuple[object, ...], says: str) -> None:
    _, result = command(*flags)
    assert result.exit_code == 1
    assert says in result.stderr.splitlines()[-1]
    assert result.stderr.startswith("train: ") or "\ntrain: " in result.stderr


def test_a_run_of_other_contexts_is_refused(command: Command, tmp_path: Path) -> None:
    run = tmp_path / "run.txt"
    run.write_text("x1 Q0 p1 1 1.0 hybrid\n", encoding="utf-8")
    _, result = command("--candidates", run)
    assert result.exit_code == 1
    assert "none is in this run" in result.stderr


def test_scores_depend_on_their_pair_alone(trained: tuple[Path, Result]) -> None:
    reranker = Reranker(str(trained[0]), "cpu", "fp32")
    contexts = [CONTEXTS[n % 2] for n in range(20)]
    papers = [PAPERS[n % 3 // 2] for n in range(20)]
    together = reranker.score(contexts, papers)
    assert together.shape == (20,)
    assert together.dtype == np.float32
    alone = [reranker.score([c], [p])[0] for c, p in zip(contexts[:6], papers[:6], strict=True)]
    assert np.allclose(together[:6], alone, atol=1e-5)
    assert len(np.unique(together.round(4))) == 4
    assert reranker.score([], []).shape == (0,)


def test_scores_compare_the_means_of_the_two_texts(trained: tuple[Path, Result]) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = trained[0]
    head = load_file(folder / "2_Dense" / "model.safetensors")
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = []
    for context, paper in zip(CONTEXTS, PAPERS, strict=True):
        tokens = tokenizer(*pair_texts(context, paper), return_tensors="pt")
        second = tokens["token_type_ids"][0].bool()
        with torch.no_grad():
            read = network(**tokens).last_hidden_state[0]
        u, v = (torch.nn.functional.normalize(read[part].mean(0), dim=0) for part in (~second, second))
        expected.append(float(20 * (u * v) @ head["linear.weight"][0] + head["linear.bias"][0]))
    assert np.allclose(Reranker(str(folder), "cpu", "fp32").score(CONTEXTS, PAPERS), expected, atol=1e-3)


def test_a_new_reranker_ranks_by_a_cosine_and_needs_one_transformer(make_model: Callable[..., Path]) -> None:
    model = headed(Encoder("minilm", "cpu", "fp32"))
    right, wrong = model.predict([pair_texts(CONTEXTS[0], paper) for paper in PAPERS])
    assert 20 > right > wrong > -20
    for other in (Encoder("citemark", "cpu", "fp32"), Encoder(str(make_model("roberta", 32)), "cpu", "fp32")):
        with pytest.raises(UserError, match="a reranker cannot begin"):
            headed(other)


def test_the_fingerprint_is_that_of_the_weights(trained: tuple[Path, Result], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(trained[0], folder)
    ours = Reranker(str(trained[0]), "cpu", "fp32")
    assert ours.fingerprint == Reranker(str(folder), "cpu", "bf16").fingerprint
    head = load_file(folder / "2_Dense" / "model.safetensors")
    head["linear.bias"] += 1
    save_file(head, folder / "2_Dense" / "model.safetensors")
    other = Reranker(str(folder), "cpu", "fp32")
    assert ours.fingerprint != other.fingerprint
    assert np.allclose(other.score(CONTEXTS, PAPERS), ours.score(CONTEXTS, PAPERS) + 1, atol=1e-5)


def test_pickles_and_absent_folders_are_refused(trained: tuple[Path, Result], tmp_path: Path) -> None:
    import shutil

    with pytest.raises(UserError, match="no such model folder"):
        Reranker(str(tmp_path / "absent"))
    folder = tmp_path / "pickle"
    shutil.copytree(trained[0], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"--reranker .* is a pickle"):
        Reranker(str(folder))
