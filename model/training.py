"""A training from its data to a model folder: the sentence-transformers trainer, set up for citations."""

import json
import resource
import shutil
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.modules import Module, Router
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments
from torch import nn
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback

from data.contexts import Context
from data.errors import UserError
from model import card, curves
from model.adapter import DOCUMENT, QUERY, add_adapter, without_adapter
from model.batches import WeightedBatches
from model.document_vectors import document_vectors
from model.encoder import Encoder
from model.losses import AdaptedDocuments, FrozenDocuments, MaskedContrast
from model.negatives import mine
from model.recipe import Recipe
from model.retrieval import DevSet, Retrieval, dev_set
from model.text import DEFAULT_MARKS, passage_text, write_marks
from model.trainer import CHECKPOINTS, Progress, Watch, last_checkpoint, load_base, record, spare_cpu
from model.training_data import (
    Documents,
    Examples,
    Rows,
    Source,
    examples,
    from_papers,
    read_documents,
    read_sources,
    with_noise,
)


@dataclass(frozen=True)
class Inputs:
    """What a training reads and writes; see the flags of the same names."""

    data: tuple[str, ...]
    out: Path
    corpus: str | None = None
    dev: str | None = None
    eval_papers: int | None = None
    every: int | None = None
    vectors: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    resume: bool = False


@dataclass
class Result:
    """What a training came to; `best` and `before` are dev measures, empty without a dev set."""

    recipe: Recipe
    inputs: Inputs
    sources: list[Source]
    steps: int
    seconds: float
    device: str
    examples: int
    candidates: int
    dev_queries: int
    before: dict[str, float]
    best: dict[str, float]
    best_step: int
    memory: float
    """Greatest memory of the process, GB; of the GPU where one was used."""


@dataclass(frozen=True)
class Material:
    """The data of a training, read and ready."""

    documents: Documents
    keys: Rows
    sources: list[Source]
    weights: list[float]
    length: int
    train: Examples
    dev: DevSet | None
    dev_rows: Rows
    drafted: list[str] | None


def gather(inputs: Inputs, recipe: Recipe, progress: Progress) -> Material:
    """Read everything that a training needs. Raises UserError."""
    documents = read_documents(inputs.corpus) if inputs.corpus else Documents()
    progress("corpus", len(documents), 0, " papers")
    sources = read_sources(inputs.data, documents, labels_count=recipe.labels_count)
    asked = read_sources([inputs.dev], documents) if inputs.dev else []
    cited = {pair.row for source in sources for pair in source.pairs if pair.label}
    if recipe.noise:
        _make_wrong(sources, documents, recipe)
    keys = documents.keys()
    train = _examples(sources, documents, keys, recipe)
    weights, length = [s.weight for s in sources], len(train)
    if recipe.synthetic:
        train, weights, length = _with_synthetic(train, sources, documents, keys, recipe)
    dev, rows, drafted = None, np.zeros(0, np.int64), None
    if asked:
        seen = {int(keys[row]) for row in cited}
        dev, rows, drafted = _dev(asked, documents, keys, seen, inputs, recipe)
    return Material(documents, keys, sources, weights, length, train, dev, rows, drafted)


def _make_wrong(sources: list[Source], documents: Documents, recipe: Recipe) -> None:
    for number, source in enumerate(sources):
        noisy = with_noise(source.pairs, documents, recipe.noise, recipe.seed + number)
        source.pairs = [pair for pair in noisy if pair.label or not recipe.labels_count]
        source.counts["made wrong"] = sum(not pair.label for pair in noisy)
        source.counts["pairs"] = len(source.pairs)
        if not source.pairs:
            raise UserError(f"{source.name}: --noise {recipe.noise} leaves no right pair; lower it")


def _dev(
    asked: list[Source],
    documents: Documents,
    keys: Rows,
    seen: set[int],
    inputs: Inputs,
    recipe: Recipe,
) -> tuple[DevSet, Rows, list[str] | None]:
    """The dev set, the documents that are its candidates, and its queries with the draft, if wanted."""
    marks = recipe.marks or DEFAULT_MARKS
    limit = inputs.eval_papers
    if limit is None:
        limit = 0 if recipe.frozen_documents else 10_000
    questions = examples(asked, documents, keys, marks, grouped=True)
    passages = [passage_text(paper) for paper in documents.papers]
    dev, rows = dev_set(questions, passages, keys, seen, limit, recipe.seed)
    if not recipe.draft:
        return dev, rows, None
    return dev, rows, examples(asked, documents, keys, marks, grouped=True, draft=1.0).queries


def _examples(sources: Sequence[Source], documents: Documents, keys: Rows, recipe: Recipe) -> Examples:
    return examples(
        sources,
        documents,
        keys,
        recipe.marks or DEFAULT_MARKS,
        grouped=recipe.frozen_documents,
        draft=recipe.draft,
        seed=recipe.seed,
    )


def _with_synthetic(
    train: Examples, sources: list[Source], documents: Documents, keys: Rows, recipe: Recipe
) -> tuple[Examples, list[float], int]:
    """The examples with pairs from abstracts, which are their share of every epoch and new in each."""
    length = round(len(train) / (1 - recipe.synthetic))
    epochs = max(1, -(-recipe.max_steps * recipe.batch // length)) if recipe.max_steps else recipe.epochs
    count = int(np.ceil((length - len(train)) * np.ceil(epochs)))
    pairs = from_papers(documents, max(count, 1), recipe.seed)
    made = Source("sentences, titles and title words of the corpus", 0.0, pairs)
    made.counts.update(rows=len(pairs), pairs=len(pairs))
    total = sum(source.weight for source in sources)
    made.weight = total * recipe.synthetic / (1 - recipe.synthetic)
    sources.append(made)
    return _examples(sources, documents, keys, recipe), [s.weight for s in sources], length


def base_model(recipe: Recipe, device: str) -> SentenceTransformer:
    """The model to train, in full precision: the base, or with frozen documents two branches of it."""
    model = load_base(recipe.base, device, "fp32").model
    if recipe.frozen_documents and not isinstance(model[0], Router):
        modules = [cast(Module, module) for module in model.children()]
        router = Router.for_query_document(deepcopy(modules), modules)
        length = model.max_seq_length
        prompts = {name: prompt for name, prompt in model.prompts.items() if prompt is not None}
        model = SentenceTransformer(modules=[router], device=device, prompts=prompts)
        model.max_seq_length = length
    if recipe.frozen_documents:
        _freeze(cast(Router, model[0]), recipe.freeze_words)
    if recipe.document_adapter:
        add_adapter(model, recipe.document_adapter)
    if device == "cpu":
        spare_cpu(model)
    return model


def _freeze(router: Router, words: bool) -> None:
    """Train the query's branch alone, without its word vectors if they are to stay."""
    for name, branch in router.sub_modules.items():
        branch.requires_grad_(name == QUERY)
    for name, parameter in router.sub_modules[QUERY].named_parameters():
        if words and ".embeddings." in name:
            parameter.requires_grad_(False)


class _Trainer(SentenceTransformerTrainer):
    """The trainer with our order of examples, and checkpoints without pickled arguments or cards."""

    batches: WeightedBatches

    def get_batch_sampler(self, *arguments: Any, **options: Any) -> Any:
        return self.batches

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No automatic card: ours is written at the end."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)


class _Refresh(TrainerCallback):  # type: ignore[misc]
    """Has the adapted documents looked up anew after every checkpoint."""

    def __init__(self, loss: AdaptedDocuments) -> None:
        self._loss = loss

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._loss.refresh()


def train(inputs: Inputs, recipe: Recipe, progress: Progress) -> Result:
    """Train and write the model folder `inputs.out`; with `inputs.resume` go on from its checkpoint.

    Raises UserError for inputs that cannot be read or make no training.
    """
    began = time.monotonic()
    encoder = load_base(recipe.base, inputs.device, inputs.precision)
    recipe = recipe.settled(encoder.device, encoder.marks)
    checkpoint = last_checkpoint(inputs.out, inputs.resume)
    material = gather(inputs, recipe, progress)
    facts = asdict(recipe) | {"data": _data_digest(material, encoder)}
    record(inputs.out, inputs.resume, facts)
    set_seed(recipe.seed)
    vectors = None
    if recipe.frozen_documents or recipe.hard_negatives:
        folder = inputs.vectors or inputs.out.parent / "document-vectors"
        vectors = document_vectors(encoder, material.documents.papers, folder, progress)
    rows = _label_rows(recipe, material, encoder, vectors)
    trainer = _trainer(inputs, recipe, material, encoder, vectors, rows)
    before = _before(inputs, trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    return _finished(inputs, recipe, material, trainer, before, began)


def _data_digest(material: Material, encoder: Encoder) -> str:
    digest = sha256(encoder.fingerprint.encode())
    for query, answers in zip(material.train.queries, material.train.answers, strict=True):
        digest.update(f"{query}\0{answers.tolist()}\0".encode())
    return digest.hexdigest()[:16]


def _before(inputs: Inputs, trainer: _Trainer) -> dict[str, float]:
    """The measures before the first step, kept for a training that is resumed."""
    path = inputs.out / "before.json"
    if inputs.resume and path.exists():
        return cast(dict[str, float], json.loads(path.read_bytes()))
    before = _measured(trainer.evaluate()) if trainer.evaluator else {}
    path.write_text(json.dumps(before) + "\n", encoding="utf-8")
    return before


def _label_rows(
    recipe: Recipe, material: Material, encoder: Encoder, vectors: NDArray[np.float16] | None
) -> Rows:
    """What the loss is told of each example: its number, then the rows of its documents."""
    train = material.train
    numbers = np.arange(len(train), dtype=np.int64)[:, None]
    if recipe.frozen_documents:
        return numbers
    rows = np.concatenate([numbers, np.array([answers[:1] for answers in train.answers])], axis=1)
    if not recipe.hard_negatives or vectors is None:
        return rows
    queries = encoder.encode_contexts([Context(query) for query in train.queries])
    negatives = mine(
        train,
        queries,
        vectors,
        material.keys,
        count=recipe.hard_negatives,
        margin=recipe.margin,
        seed=recipe.seed,
    )
    return np.concatenate([rows, negatives], axis=1)


def _dataset(material: Material, rows: Rows) -> Dataset:
    """The examples as the trainer takes them; texts are looked up when a batch is made."""
    papers, queries = material.documents.papers, material.train.queries
    columns = ["passage", *(f"negative_{n}" for n in range(1, rows.shape[1] - 1))][: rows.shape[1] - 1]

    def texts(batch: dict[str, list[list[int]]]) -> dict[str, list[Any]]:
        labels = batch["label"]
        found: dict[str, list[Any]] = {"query": [queries[label[0]] for label in labels]}
        for place, column in enumerate(columns, 1):
            found[column] = [passage_text(papers[label[place]]) for label in labels]
        return found | {"label": labels}

    return Dataset.from_dict({"label": rows.tolist()}).with_transform(texts)


def _trainer(
    inputs: Inputs,
    recipe: Recipe,
    material: Material,
    encoder: Encoder,
    vectors: NDArray[np.float16] | None,
    rows: Rows,
) -> _Trainer:
    model = base_model(recipe, encoder.device)
    bf16 = encoder.precision == "bf16"
    batches = WeightedBatches(
        material.train.source,
        material.weights,
        recipe.batch,
        recipe.seed,
        length=material.length,
        one_source=recipe.one_source_batches,
    )
    steps = recipe.max_steps or int(np.ceil(len(batches) * recipe.epochs))
    every = inputs.every or -(-steps // (6 if recipe.frozen_documents else 3))
    evaluates = material.dev is not None
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(inputs.out / CHECKPOINTS),
        per_device_train_batch_size=recipe.batch,
        max_steps=steps,
        learning_rate=recipe.lr,
        learning_rate_mapping={r"\.(up|down)\.(weight|bias)$": recipe.adapter_lr}
        if recipe.document_adapter
        else {},
        lr_scheduler_type=recipe.schedule,
        warmup_steps=int(np.ceil(recipe.warmup * steps)),
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        bf16=bf16,
        use_cpu=encoder.device == "cpu",
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=evaluates,
        metric_for_best_model="eval_hit@10" if evaluates else None,
        greater_is_better=True if evaluates else None,
        logging_steps=max(1, min(25, steps // 20)),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=encoder.device == "cuda",
    )
    columns: dict[str, str] = {"query": QUERY}
    columns |= dict.fromkeys(("passage", *(f"negative_{n}" for n in range(1, rows.shape[1]))), DOCUMENT)
    loss = _loss(recipe, material, model, vectors, torch.bfloat16 if bf16 else torch.float32)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=_dataset(material, rows),
        loss=loss,
        evaluator=_evaluator(recipe, material, vectors, bf16, encoder.device),
        data_collator=SentenceTransformerDataCollator(
            preprocess_fn=model.preprocess,
            router_mapping=columns,
            max_length={
                task: min(tokens, model.max_seq_length or tokens)
                for task, tokens in ((QUERY, recipe.query_tokens), (DOCUMENT, recipe.passage_tokens))
            },
        ),
        callbacks=[Watch(inputs.out, recipe.batch, evaluates)],
    )
    trainer.remove_callback(PrinterCallback)
    if isinstance(loss, AdaptedDocuments):
        trainer.add_callback(_Refresh(loss))
    trainer.batches = batches
    return trainer


def _loss(
    recipe: Recipe,
    material: Material,
    model: SentenceTransformer,
    vectors: NDArray[np.float16] | None,
    precision: torch.dtype,
) -> nn.Module:
    if recipe.seed_loss:
        return MultipleNegativesRankingLoss(model, scale=recipe.scale)
    size = recipe.mini_batch
    if recipe.frozen_documents and vectors is not None:
        documents = torch.from_numpy(vectors).to(precision)
        loss = AdaptedDocuments if recipe.document_adapter else FrozenDocuments
        return loss(
            model,
            material.train,
            material.keys,
            documents,
            scale=recipe.scale,
            mini_batch_size=size,
            prior=recipe.prior,
        )
    return MaskedContrast(
        model, material.train, material.keys, scale=recipe.scale, mini_batch_size=size, mask=recipe.mask
    )


def _evaluator(
    recipe: Recipe, material: Material, vectors: NDArray[np.float16] | None, bf16: bool, device: str
) -> Retrieval | None:
    if material.dev is None:
        return None
    return Retrieval(
        material.dev,
        vectors=vectors[material.dev_rows] if vectors is not None and recipe.frozen_documents else None,
        drafted=material.drafted,
        batch=256 if device == "cuda" else 16,
        bf16=bf16,
        seed=recipe.seed,
    )


def _measured(metrics: dict[str, Any]) -> dict[str, float]:
    kept = ("hit@", "R@", "MRR", "seen", "unseen", "spearman")
    found = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    return {name: value for name, value in found.items() if name.removeprefix("draft ").startswith(kept)}


def _finished(
    inputs: Inputs,
    recipe: Recipe,
    material: Material,
    trainer: _Trainer,
    before: dict[str, float],
    began: float,
) -> Result:
    """Save the best model, its card and curves; the checkpoints are no longer needed."""
    history = trainer.state.log_history
    scored = [entry for entry in history if "eval_hit@10" in entry]
    best: dict[str, Any] = max(scored, key=lambda entry: float(entry["eval_hit@10"]), default={})
    if before:
        history.insert(0, {f"eval_{name}": value for name, value in before.items()} | {"step": 0})
    device = trainer.model.device.type
    gpu = device == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    result = Result(
        recipe=recipe,
        inputs=inputs,
        sources=material.sources,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - began,
        device=torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        examples=material.length,
        candidates=len(material.dev.passages) if material.dev else 0,
        dev_queries=len(material.dev.queries) if material.dev else 0,
        before=before,
        best=_measured(best),
        best_step=int(best.get("step", trainer.state.global_step)),
        memory=peak / 1e9,
    )
    without_adapter(trainer.model)
    trainer.model.save_pretrained(str(inputs.out), create_model_card=False)
    write_marks(inputs.out, recipe.marks or DEFAULT_MARKS)
    curves.save(history, inputs.out)
    card.write(result)
    shutil.rmtree(inputs.out / CHECKPOINTS)
    (inputs.out / "before.json").unlink(missing_ok=True)
    return result
