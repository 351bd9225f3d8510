"""The model card that a training leaves in its folder: data, protocol, numbers, command."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.training import Result

MEANINGS = {
    "hit@10": "share of (context, cited paper) pairs whose paper is among the first ten",
    "R@10": "mean over contexts of the share of their cited papers among the first ten",
    "MRR": "mean over pairs of 1 / rank",
    "seen": "hit@10 of papers that training contexts cite too",
    "unseen": "hit@10 of papers that no training context cites",
    "spearman": "cosine against label, one cited paper to 4.6 random ones; for comparison with older cards",
}


def write(result: "Result") -> None:
    """Write README.md into the folder of the model."""
    text = "\n".join(_lines(result)) + "\n"
    (result.inputs.out / "README.md").write_text(text, encoding="utf-8")


def _lines(result: "Result") -> Iterator[str]:
    recipe, inputs = result.recipe, result.inputs
    yield "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n---\n"
    yield f"# A citation encoder, fine-tuned from {recipe.base}\n"
    yield (
        "Takes a sentence with `[CITE]` and the title and abstract of a paper to vectors whose cosine says "
        "how likely the sentence cites the paper. Use it with Citemark: "
        f"`indexer build CORPUS --encoder {inputs.out.name}`. Marks of a context: `{recipe.marks}`."
    )
    if recipe.frozen_documents:
        yield (
            "\nTwo branches: papers are encoded by the base as it was, contexts by the tuned branch "
            "(`encode_query`), which was trained against the vectors of the whole corpus."
        )
    yield "\n## Data\n"
    for source in result.sources:
        counts = ", ".join(f"{count:,} {what}" for what, count in source.counts.items() if count)
        yield f"- `{source.name}`: {counts}; weight {source.weight:g}"
    yield f"- corpus: `{inputs.corpus}`; an epoch has {result.examples:,} examples"
    yield "\n## Recipe\n\n| | |\n|---|---|"
    for name, value in asdict(recipe).items():
        yield f"| {name.replace('_', ' ')} | {value} |"
    yield "\n## Numbers\n"
    yield from _numbers(result)
    yield "\nThe course of loss and recall is in curves.json and curves.png.\n\n## Made by\n"
    yield f"```\n{_command()}\n```\n"
    yield (
        f"{result.steps:,} steps in {result.seconds / 60:.0f} minutes on {result.device}, "
        f"{result.memory:.1f} GB of memory at most."
    )


def _numbers(result: "Result") -> Iterator[str]:
    if not result.best:
        yield "Not measured: no dev set was given. The model is that of the last step."
        return
    yield (
        f"On `{result.inputs.dev}`: {result.dev_queries:,} contexts over {result.candidates:,} candidates, "
        f"exact search, the sentence alone. Step {result.best_step:,} was best by hit@10 and is kept."
    )
    yield "\n| measure | base | trained | what it is |\n|---|---|---|---|"
    for name, value in result.best.items():
        before = result.before.get(name)
        shown = "" if before is None else f"{before:.3f}"
        yield f"| {name} | {shown} | {value:.3f} | {MEANINGS.get(name, '')} |"


def _command() -> str:
    return shlex.join(["python", "-m", "model.train", *sys.argv[1:]])
