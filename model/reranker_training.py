"""A training of the reranker: a cited paper against candidates that search puts beside it."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback

from data.contexts import Context, read_queries, run_names
from data.errors import UserError
from model import curves
from model.encoder import computes_bf16
from model.negatives import co_cited
from model.reranker import Reranker, headed
from model.text import pair_texts
from model.trainer import CHECKPOINTS, Progress, Watch, last_checkpoint, load_base, record, spare_cpu
from model.training_data import Documents, Examples, Pair, Rows, Source, examples, read_documents

CUTOFFS = (1, 10)


@dataclass(frozen=True)
class RerankerRecipe:
    """The numbers of one training; two runs with equal recipes and data give equal weights."""

    base: str = "minilm"
    negatives: int = 7
    random: int = 1
    """How many of the negatives are drawn from the whole corpus; the others from the candidates."""
    depth: int = 100
    """The candidates that negatives are drawn from."""
    freeze_words: bool = True
    frozen_layers: int = 0
    """The first layers of the base that stay as they are: a quarter of the time for each third."""
    batch: int = 8
    mini_batch: int = 32
    lr: float = 2e-4
    head_lr: float = 2e-3
    epochs: float = 1.0
    max_steps: int = 0
    warmup: float = 0.06
    weight_decay: float = 0.01
    seed: int = 42

    def check(self) -> None:
        """Raise UserError for numbers that make no training."""
        for name in ("negatives", "depth", "batch", "mini_batch", "lr", "head_lr", "epochs"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} is {value}, not a number above 0")
        if not 0 <= self.warmup <= 1:
            raise UserError(f"--warmup is {self.warmup}, not a share from 0 to 1")
        if self.random > self.negatives:
            raise UserError(f"--random {self.random} is more than --negatives {self.negatives}")


@dataclass(frozen=True)
class RerankerInputs:
    """What a training reads and writes; see the flags of the same names."""

    contexts: str
    corpus: str
    candidates: Path
    out: Path
    dev: str | None = None
    dev_candidates: Path | None = None
    dev_queries: int = 200
    dev_depth: int = 50
    every: int | None = None
    device: str = "auto"
    precision: str = "auto"
    resume: bool = False


@dataclass(frozen=True)
class RerankerResult:
    """What a training came to; `first` and `reranked` are measures on dev, empty without it."""

    counts: Counter[str]
    steps: int
    seconds: float
    first: dict[str, float]
    reranked: dict[str, float]


@dataclass(frozen=True)
class Asked:
    """Contexts with their answers, and for each the rows that a search gave, best first."""

    examples: Examples
    candidates: list[Rows]
    counts: Counter[str]


def train(inputs: RerankerInputs, recipe: RerankerRecipe, progress: Progress) -> RerankerResult:
    """Train and write the model folder `inputs.out`; with `inputs.resume` go on from its checkpoint.

    Raises UserError for inputs that cannot be read or make no training.
    """
    began = time.monotonic()
    recipe.check()
    checkpoint = last_checkpoint(inputs.out, inputs.resume)
    documents = read_documents(inputs.corpus)
    progress("corpus", len(documents), 0, " papers")
    keys = documents.keys()
    asked = gather(inputs.contexts, inputs.candidates, documents, keys)
    dev = None
    if inputs.dev and inputs.dev_candidates:
        dev = gather(inputs.dev, inputs.dev_candidates, documents, keys)
    lists = np.array(list(_lists(asked, keys, recipe)), np.int64)
    progress("lists", len(lists), 0, f" of 1 cited and {recipe.negatives} other papers")
    base = load_base(recipe.base, inputs.device, "fp32")
    digest = sha256(f"{base.fingerprint} {lists.tolist()}".encode()).hexdigest()[:16]
    record(inputs.out, inputs.resume, asdict(recipe) | {"data": digest})
    set_seed(recipe.seed)
    model = headed(base)
    _freeze(model, recipe)
    if base.device == "cpu":
        spare_cpu(model)
    trainer = _trainer(inputs, recipe, model, _dataset(lists, asked.examples.queries, documents))
    trainer.train(resume_from_checkpoint=checkpoint)
    model.save_pretrained(str(inputs.out), create_model_card=False)
    curves.save(trainer.state.log_history, inputs.out)
    shutil.rmtree(inputs.out / CHECKPOINTS)
    first: dict[str, float] = {}
    reranked: dict[str, float] = {}
    if dev:
        first, reranked = measured(Reranker(str(inputs.out), inputs.device), dev, documents, inputs)
    return RerankerResult(asked.counts, trainer.state.global_step, time.monotonic() - began, first, reranked)


def _freeze(model: CrossEncoder, recipe: RerankerRecipe) -> None:
    layers = tuple(f".layer.{number}." for number in range(recipe.frozen_layers))
    for name, parameter in model.named_parameters():
        stays = recipe.freeze_words and ".embeddings." in name
        parameter.requires_grad_(not stays and not any(layer in name for layer in layers))


def gather(contexts: str, run: Path, documents: Documents, keys: Rows) -> Asked:
    """The contexts of a file with what a search found for them. Raises UserError."""
    queries, reading = read_queries(contexts)
    found = _read_run(run)
    counts: Counter[str] = Counter(rows=reading.read, contexts=len(queries))
    pairs, candidates = [], {}
    for name, query in zip(run_names(queries), queries, strict=True):
        rows = [row for cited in query.cited_ids if (row := documents.find(cited)) is not None]
        counts["cited papers not in the corpus"] += len(query.cited_ids) - len(rows)
        if name not in found:
            counts["contexts not in the run"] += 1
            continue
        pairs += [Pair(query.context.text, query.citing_id, row) for row in rows]
        places = [documents.find(paper_id) for paper_id in found[name]]
        known = [place for place in places if place is not None]
        candidates[query.citing_id, query.context.text] = np.array(known, np.int64)
    if not pairs:
        raise UserError(
            f"{run}: of the {len(queries):,} contexts of {contexts} none is in this run and cites a paper of "
            "the corpus; make it with: indexer evaluate CONTEXTS --ranking hybrid --out FOLDER"
        )
    asked = examples([Source(contexts, 1.0, pairs)], documents, keys, "keep", grouped=True)
    named = dict.fromkeys((pair.citing_id, pair.context) for pair in pairs)
    return Asked(asked, [candidates[name] for name in named], counts)


def _read_run(path: Path) -> dict[str, list[str]]:
    """The ids of each query of a TREC run, best first. Raises UserError."""
    import ir_measures

    found: dict[str, list[tuple[float, str]]] = {}
    try:
        for scored in ir_measures.read_trec_run(str(path)):  # type: ignore[no-untyped-call]
            found.setdefault(scored.query_id, []).append((-scored.score, scored.doc_id))
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: no TREC run ({error}); make one with: indexer evaluate CONTEXTS --ranking hybrid "
            "--out FOLDER"
        ) from None
    return {name: [paper_id for _, paper_id in sorted(scores)] for name, scores in found.items()}


def _lists(asked: Asked, keys: Rows, recipe: RerankerRecipe) -> Iterator[list[int]]:
    """The number of an example, a row that it cites, and rows that it does not cite, new in every epoch.

    No negative is a right answer of the context, or cited elsewhere by its paper: see model.negatives.
    """
    rng = np.random.default_rng([recipe.seed, 13])
    excluded = co_cited(asked.examples, keys)
    count = sum(len(answers) for answers in asked.examples.answers)
    for _ in range(max(1, -(-recipe.max_steps * recipe.batch // count) or int(np.ceil(recipe.epochs)))):
        for number in rng.permutation(len(asked.examples)).tolist():
            near = asked.candidates[number][: recipe.depth]
            near = near[[key not in excluded[number] for key in keys[near].tolist()]]
            for answer in asked.examples.answers[number].tolist():
                hard = rng.permutation(near)[: recipe.negatives - recipe.random].tolist()
                yield [number, answer, *_filled(hard, recipe.negatives, excluded[number], keys, rng)]


def _filled(
    rows: list[int], count: int, excluded: frozenset[int], keys: Rows, rng: np.random.Generator
) -> list[int]:
    """The rows and as many random ones that are no right answers as make `count`."""
    tries = 0
    while len(rows) < count:
        row = int(rng.integers(len(keys)))
        tries += 1
        if tries > 100 * count:
            raise UserError(f"the corpus of {len(keys):,} papers is too small for --negatives {count}")
        if int(keys[row]) not in excluded and row not in rows:
            rows = [*rows, row]
    return rows


def _dataset(lists: Rows, queries: Sequence[str], documents: Documents) -> Dataset:
    """The lists as the trainer takes them; texts are looked up when a batch is made."""

    def pairs(batch: dict[str, list[list[int]]]) -> dict[str, list[Any]]:
        return {
            "pairs": [
                [pair_texts(Context(queries[number]), documents.papers[row]) for row in rows]
                for number, *rows in batch["list"]
            ]
        }

    return Dataset.from_dict({"list": lists.tolist()}).with_transform(pairs)


class Listwise(nn.Module):
    """Softmax over the papers of a list, of which the first is the cited one."""

    def __init__(self, model: CrossEncoder, mini_batch: int) -> None:
        super().__init__()
        self.model = model
        self.mini_batch = mini_batch

    def forward(self, inputs: list[Any], labels: None, **_: Any) -> Tensor:
        """The mean loss of the batch's lists; `inputs` is the one column of lists of pairs."""
        pairs = [pair for pairs in inputs[0] for pair in pairs]
        order = sorted(range(len(pairs)), key=lambda place: sum(map(len, pairs[place])))
        logits = []
        for start in range(0, len(order), self.mini_batch):  # of one length: no padding
            features = self.model.preprocess([pairs[p] for p in order[start : start + self.mini_batch]])
            scores = self.model(batch_to_device(features, self.model.device))["scores"]
            logits.append(scores.flatten().float())
        places = torch.argsort(torch.tensor(order)).to(self.model.device)
        scores = torch.cat(logits)[places].view(len(inputs[0]), -1)
        return cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device))


class _Trainer(CrossEncoderTrainer):
    """The trainer with checkpoints without pickled arguments or cards."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No automatic card."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)


def _trainer(inputs: RerankerInputs, recipe: RerankerRecipe, model: CrossEncoder, data: Dataset) -> _Trainer:
    device = model.device.type
    epoch = len(data) / np.ceil(recipe.epochs)
    steps = recipe.max_steps or int(np.ceil(recipe.epochs * epoch / recipe.batch))
    trainer = _Trainer(
        model=model,
        args=CrossEncoderTrainingArguments(
            output_dir=str(inputs.out / CHECKPOINTS),
            per_device_train_batch_size=recipe.batch,
            max_steps=steps,
            learning_rate=recipe.lr,
            learning_rate_mapping={r"linear\.(weight|bias)$": recipe.head_lr},
            warmup_steps=int(np.ceil(recipe.warmup * steps)),
            weight_decay=recipe.weight_decay,
            seed=recipe.seed,
            bf16=inputs.precision != "fp32" and (inputs.precision == "bf16" or computes_bf16(device)),
            use_cpu=device == "cpu",
            save_strategy="steps",
            save_steps=inputs.every or -(-steps // 6),
            save_total_limit=2,
            logging_steps=max(1, min(25, steps // 20)),
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=device == "cuda",
        ),
        train_dataset=data,
        loss=Listwise(model, recipe.mini_batch),
        callbacks=[Watch(inputs.out, recipe.batch, evaluates=False)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measured(
    reranker: Reranker, dev: Asked, documents: Documents, inputs: RerankerInputs
) -> tuple[dict[str, float], dict[str, float]]:
    """hit@k and MRR of (context, cited paper) pairs: of the candidates as they come, and reranked.

    Of some contexts, drawn at random, the first `dev_depth` candidates; a paper that is not among them
    counts as not found.
    """
    drawn = np.random.default_rng(0).permutation(len(dev.examples))[: inputs.dev_queries].tolist()
    before: list[float] = []
    after: list[float] = []
    for number in drawn:
        rows = dev.candidates[number][: inputs.dev_depth]
        context = Context(dev.examples.queries[number])
        logits = reranker.score([context] * len(rows), [documents.papers[row] for row in rows.tolist()])
        for answer in dev.examples.answers[number].tolist():
            for ranks, order in ((before, rows), (after, rows[np.argsort(-logits, kind="stable")])):
                places = np.flatnonzero(order == answer)
                ranks.append(1.0 + places[0] if len(places) else np.inf)
    return _measures(np.array(before)), _measures(np.array(after))


def _measures(ranks: Any) -> dict[str, float]:
    found = {f"hit@{k}": (ranks <= k).mean() for k in CUTOFFS} | {"MRR": (1 / ranks).mean()}
    return {name: round(float(value), 4) for name, value in found.items()}
