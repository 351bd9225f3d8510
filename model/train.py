"""`python -m model.train`: fine-tune an encoder on citing sentences.

Exit codes: 0 done, 1 a fault the user can mend (one line), 2 wrong usage, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from data.errors import UserError
from model.recipe import RECIPES
from model.text import MARKS


class TrainingCommand(click.Command):
    """Turns a UserError into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"train: {error}", err=True)
            sys.exit(1)
        except (KeyboardInterrupt, click.Abort):
            click.echo("train: interrupted; the same command with --resume goes on from here", err=True)
            sys.exit(130)


def _options(*groups: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in reversed(groups):
            command = option(command)
        return command

    return add


_FILES = _options(
    click.argument("data", nargs=-1, required=True),
    click.option("--out", type=click.Path(path_type=Path), required=True, help="The model's new folder."),
    click.option("--corpus", help="Papers that DATA cites by id; read like `indexer build` reads."),
    click.option("--dev", help="Contexts to measure recall on while training, in any form of DATA."),
    click.option(
        "--eval-papers",
        type=click.IntRange(0),
        help="Candidates besides the cited papers, drawn at random; 0: the whole corpus "
        "[default: 0 with --frozen-documents, else 10000]",
    ),
    click.option("--every", type=click.IntRange(1), help="Steps between evaluations and checkpoints."),
    click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out."),
    click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True),
    click.option(
        "--precision", type=click.Choice(("auto", "bf16", "fp32")), default="auto", show_default=True
    ),
    click.option(
        "--vectors",
        type=click.Path(path_type=Path),
        help="Folder that keeps document vectors [default: document-vectors beside --out]",
    ),
)

_RECIPE = _options(
    click.option("--recipe", type=click.Choice(tuple(RECIPES)), default="citemark", show_default=True),
    click.option("--base", help="minilm, a folder or a hub name [default: minilm]"),
    click.option(
        "--frozen-documents",
        is_flag=True,
        default=None,
        help="Train the query encoder alone, against the vectors of the whole corpus.",
    ),
    click.option(
        "--document-adapter",
        type=click.IntRange(0),
        help="Hidden units of a network on the frozen documents' vectors, trained too [default: 0, none]",
    ),
    click.option("--adapter-lr", type=click.FloatRange(0, min_open=True), help="[default: 1e-3]"),
    click.option(
        "--freeze-words",
        is_flag=True,
        default=None,
        help="Keep the base's word vectors (with --frozen-documents).",
    ),
    click.option(
        "--prior",
        type=float,
        help="Weight of the log of how often a paper is cited, while training [default: 0]",
    ),
    click.option(
        "--marks",
        type=click.Choice(MARKS),
        help="What a query keeps of [CITE] and [OTHER] [default: the base's]",
    ),
    click.option("--batch", type=click.IntRange(1), help="[default: 128 frozen, else 256, 1024 on a GPU]"),
    click.option(
        "--mini-batch", type=click.IntRange(1), help="Texts encoded at once [default: 32, 256 on a GPU]"
    ),
    click.option("--lr", type=click.FloatRange(0, min_open=True), help="[default: 1e-4 frozen, else 5e-5]"),
    click.option("--epochs", type=float, help="[default: 2]"),
    click.option("--max-steps", type=click.IntRange(1), help="Instead of --epochs."),
    click.option("--warmup", type=float, help="Share of the steps [default: 0.06]"),
    click.option("--schedule", type=click.Choice(("linear", "cosine", "constant_with_warmup"))),
    click.option("--weight-decay", type=float, help="[default: 0.01]"),
    click.option("--scale", type=float, help="Factor of the cosines [default: 20]"),
    click.option("--query-tokens", type=click.IntRange(1), help="[default: 80, 256 with --draft]"),
    click.option("--passage-tokens", type=click.IntRange(1), help="[default: 256]"),
    click.option("--mask/--no-mask", default=None, help="Leave out false negatives [default: yes]"),
    click.option("--hard-negatives", type=click.IntRange(0), help="Mined for each pair [default: 0]"),
    click.option("--margin", type=float, help="Relative margin below the right paper [default: 0.05]"),
    click.option(
        "--synthetic", type=float, help="Share of pairs made of the corpus's abstracts [default: 0]"
    ),
    click.option(
        "--draft", type=float, help="Share of queries with the citing paper after them [default: 0]"
    ),
    click.option(
        "--noise", type=float, help="Share of pairs made wrong, label 0, for ablations [default: 0]"
    ),
    click.option(
        "--labels-count/--ignore-labels", default=None, help="Whether label 0 is left out [default: yes]"
    ),
    click.option(
        "--one-source-batches", is_flag=True, default=None, help="Draw each batch from one data set."
    ),
    click.option("--seed", type=int, help="[default: 42]"),
)


@click.command(cls=TrainingCommand, context_settings={"help_option_names": ["-h", "--help"]})
@_FILES
@_RECIPE
def main(recipe: str, **flags: Any) -> None:
    """Fine-tune an encoder on DATA and write the model folder --out.

    DATA are .parquet, .jsonl, .csv or .tsv files (plain, .gz or .zst), BEIR folders, Hugging Face data
    sets (hf:owner/name:split) or mixtures of them (.json: a list of {"name": path, "weight": number}).
    Rows are contexts (text, citing_id, cited_id; needs --corpus), pairs (query, passage, optionally id)
    or three-column data (sentence_0, sentence_1, label).

    The model of the evaluation with the best hit@10 is kept, with its card and curves. `--recipe seed`
    is the first citation model's recipe, defects included; other flags change single numbers of a recipe.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    names = RECIPES[recipe].__dataclass_fields__
    settings = replace(RECIPES[recipe], **{name: given.pop(name) for name in list(given) if name in names})
    ready()
    from model.training import Inputs, train

    result = train(Inputs(**given), settings, progress_lines())
    for source in result.sources:
        counts = ", ".join(f"{count:,} {what}" for what, count in source.counts.items() if count)
        click.echo(f"{source.name}: {counts}")
    for name, value in result.best.items():
        click.echo(f"{name:16} {value:.4f}  (before {result.before.get(name, float('nan')):.4f})")
    click.echo(f"model of step {result.best_step:,} at {flags['out']} in {result.seconds / 60:.1f} minutes")


def ready() -> None:
    """Set up a training's process. Raises UserError where a package that only training needs is missing."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        import accelerate  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(f"training needs {error.name}: pip install 'citemark[train]'") from None


def progress_lines() -> Callable[[str, int, int, str], None]:
    """Lines on stderr, at most one in ten seconds of a stage."""
    import time

    last: list[Any] = ["", 0.0]

    def show(stage: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if stage != last[0] or now - last[1] > 10 or done == total:
            last[:] = [stage, now]
            click.echo(f"{stage}: {done:,}{f' of {total:,}' if total else ''}{unit}", err=True)

    return show


if __name__ == "__main__":
    main()
