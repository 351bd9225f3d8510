"""`python -m model.train_reranker`: fine-tune a cross-encoder on citing sentences and their candidates.

Exit codes: 0 done, 1 a fault the user can mend (one line), 2 wrong usage, 130 interrupted.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from model.train import TrainingCommand, progress_lines, ready


@click.command(cls=TrainingCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("contexts")
@click.option("--corpus", required=True, help="The papers; read like `indexer build` reads.")
@click.option(
    "--candidates",
    type=click.Path(path_type=Path),
    required=True,
    help="What search finds for CONTEXTS, a TREC run: run-hybrid.txt of `indexer evaluate CONTEXTS`.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model's new folder.")
@click.option("--dev", help="Contexts to measure on at the end.")
@click.option("--dev-candidates", type=click.Path(path_type=Path), help="What search finds for these.")
@click.option("--dev-queries", type=click.IntRange(1), help="How many of them [default: 200]")
@click.option("--dev-depth", type=click.IntRange(1), help="Candidates of each [default: 50]")
@click.option("--base", help="minilm, a folder or a hub name [default: minilm]")
@click.option("--negatives", type=click.IntRange(1), help="Papers beside a cited one [default: 7]")
@click.option("--random", type=click.IntRange(0), help="How many of these from the corpus [default: 1]")
@click.option("--depth", type=click.IntRange(1), help="Candidates to draw the others from [default: 100]")
@click.option(
    "--freeze-words/--train-words", default=None, help="Keep the base's word vectors [default: yes]"
)
@click.option("--frozen-layers", type=click.IntRange(0), help="Of the base's layers, the first [default: 0]")
@click.option("--batch", type=click.IntRange(1), help="Lists in a step [default: 8]")
@click.option("--mini-batch", type=click.IntRange(1), help="Pairs encoded at once [default: 32]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="[default: 2e-4]")
@click.option("--head-lr", type=click.FloatRange(0, min_open=True), help="[default: 2e-3]")
@click.option("--epochs", type=float, help="[default: 1]")
@click.option("--max-steps", type=click.IntRange(1), help="Instead of --epochs.")
@click.option("--warmup", type=float, help="Share of the steps [default: 0.06]")
@click.option("--weight-decay", type=float, help="[default: 0.01]")
@click.option("--seed", type=int, help="[default: 42]")
@click.option("--every", type=click.IntRange(1), help="Steps between checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(("auto", "bf16", "fp32")), default="auto", show_default=True)
def main(**flags: Any) -> None:
    """Fine-tune a cross-encoder on CONTEXTS and write the model folder --out.

    CONTEXTS is a file of text, citing_id, cited_id, or a BEIR folder. A cited paper is told from papers
    that search finds for the same context and that its citing paper does not cite.
    """
    ready()
    from model.reranker_training import RerankerInputs, RerankerRecipe, train

    given = {name: value for name, value in flags.items() if value is not None}
    names = {field.name for field in fields(RerankerRecipe)}
    recipe = RerankerRecipe(**{name: given.pop(name) for name in list(given) if name in names})
    result = train(RerankerInputs(**given), recipe, progress_lines())
    click.echo(", ".join(f"{count:,} {what}" for what, count in result.counts.items() if count))
    for name, value in result.reranked.items():
        click.echo(f"{name:8} {value:.4f}  (as search ranks them {result.first[name]:.4f})")
    click.echo(f"model of step {result.steps:,} at {flags['out']} in {result.seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
