"""The `indexer` command: results on stdout, progress and faults on stderr.

Exit codes: 0 done, 1 a fault the user can mend (one line), 2 wrong usage, 130 interrupted. The heavy
modules are imported inside the commands, so that `--help` answers at once.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from data.errors import UserError
from indexer.settings import DEVICES, RANKINGS, Settings, from_environment

LISTED = 10  # rejects that a build prints


class _Commands(click.Group):
    """Turns a UserError of any command into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"indexer: {error}", err=True)
            sys.exit(1)
        except (KeyboardInterrupt, click.Abort):
            click.echo("indexer: interrupted; the same command goes on from here", err=True)
            sys.exit(130)


def _index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--device", type=click.Choice(DEVICES), help="Where to compute [default: auto]."),
        click.option("--index", type=click.Path(path_type=Path), help="The index's folder."),
    ):
        command = option(command)
    return command


def _settings(**flags: Any) -> Settings:
    return replace(from_environment(), **{k: v for k, v in flags.items() if v is not None})


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="citemark", prog_name="indexer")
def main() -> None:
    """Build, search and measure an index of papers to cite.

    A first round: `indexer build starter`, then `indexer search "… [CITE] …"`.

    Defaults come from the environment: CITEMARK_INDEX (citemark-index), CITEMARK_DEVICE (auto),
    CITEMARK_RANKING (hybrid), CITEMARK_K (10).
    """


@main.command()
@click.argument("source")
@_index_options
@click.option("--encoder", default="minilm", show_default=True, help="minilm, a folder or a hub name.")
@click.option("--category", "categories", multiple=True, help="Keep this category; may be repeated.")
@click.option("--since", type=int, help="Keep papers of this year and later.")
@click.option("--until", type=int, help="Keep papers of this year and earlier.")
@click.option("--max-rejects", type=float, default=0.05, show_default=True, help="Share of bad records.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def build(
    source: str,
    index: Path | None,
    device: str | None,
    encoder: str,
    categories: tuple[str, ...],
    since: int | None,
    until: int | None,
    max_rejects: float,
    as_json: bool,
) -> None:
    """Build an index of SOURCE and publish it.

    SOURCE is a file (.jsonl, .json or .csv, plain, .gz or .zst; .parquet; .bib; arXiv's metadata
    snapshot as it is), a folder of them, a BEIR folder, `starter`, or a Hugging Face data set
    (hf:owner/name). A build that was killed goes on when the same command is run again.
    """
    settings = _settings(index=index, device=device)
    from data.corpus import Filter
    from indexer.build import build as build_index
    from indexer.progress import Bars
    from model.encoder import Encoder

    keep = Filter(categories, since, until)
    with Bars() as bars:
        generation, reading = build_index(
            source, settings.index, Encoder(encoder, settings.device), keep, max_rejects, bars
        )
    for reject in reading.rejects[:LISTED]:
        click.echo(f"rejected {reject}", err=True)
    if reading.rejected > LISTED:
        click.echo(f"… and {reading.rejected - LISTED:,} more", err=True)
    manifest = generation.manifest
    if as_json:
        _print_json({"index": str(settings.index), **_facts(manifest)})
        return
    counts = ", ".join(
        f"{getattr(reading, name):,} {name}" for name in ("accepted", "rejected", "filtered", "duplicates")
    )
    click.echo(f"{reading.read:,} records read: {counts}")
    click.echo(f"index of {manifest.papers:,} papers at {settings.index} in {manifest.seconds:.0f} s")


@main.command()
@click.argument("text")
@_index_options
@click.option("-k", type=click.IntRange(1, 1000), help="Papers to list [default: 10].")
@click.option("--ranking", type=click.Choice(RANKINGS), help="[default: hybrid]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def search(
    text: str,
    index: Path | None,
    device: str | None,
    k: int | None,
    ranking: str | None,
    as_json: bool,
) -> None:
    """List the papers for each [CITE] of TEXT (`-` reads it from stdin); without a mark, for TEXT."""
    settings = _settings(index=index, device=device, k=k, ranking=ranking)
    from data.contexts import parse

    contexts = parse(sys.stdin.read() if text == "-" else text)
    from indexer.search import Searcher

    answers = Searcher(settings).search(contexts)
    if as_json:
        _print_json(
            {
                "contexts": [
                    {"text": context.text, "hits": [hit.as_dict() for hit in hits]}
                    for context, hits in zip(contexts, answers, strict=True)
                ]
            }
        )
        return
    for context, hits in zip(contexts, answers, strict=True):
        if len(contexts) > 1:
            click.echo(f"\n{context.text}")
        for hit in hits:
            paper = hit.paper
            who = paper.authors[0] + (" et al." if len(paper.authors) > 1 else "") if paper.authors else "?"
            click.echo(f"{hit.rank:3}  {hit.score:.3f}  {paper.title}")
            click.echo(f"            {who}, {paper.year or 'no year'}  {paper.url or paper.paper_id}")


@main.command()
@click.argument("contexts")
@_index_options
@click.option("--ranking", "rankings", multiple=True, type=click.Choice(RANKINGS), help="[default: all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for run, qrels and report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    contexts: str,
    index: Path | None,
    device: str | None,
    rankings: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure recall on CONTEXTS: a .parquet or .jsonl file of text, citing_id, cited_id, or a BEIR
    folder. `starter` is the starter corpus's own set."""
    settings = _settings(index=index, device=device)
    from data.contexts import read_queries
    from data.corpus import STARTER

    path = str(STARTER.parent / "contexts.jsonl") if contexts == "starter" else contexts
    queries, reading = read_queries(path)
    from indexer.evaluate import evaluate as measure
    from indexer.evaluate import table
    from indexer.progress import Bars
    from indexer.search import Searcher

    for reject in reading.rejects[:LISTED]:
        click.echo(f"rejected {reject}", err=True)
    out = out or settings.index.parent / f"{settings.index.name}-evaluation"
    with Bars() as bars:
        report = measure(
            Searcher(settings),
            queries,
            rankings or ("bm25", "dense", "hybrid"),
            out,
            contexts,
            bars,
        )
    if as_json:
        _print_json(report.as_dict())
    else:
        click.echo("\n".join(table(report)))
        click.echo(f"run, qrels and report are in {out}")


@main.command()
@_index_options
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def info(index: Path | None, device: str | None, as_json: bool) -> None:
    """Say what the index holds, what built it and how large it is."""
    settings = _settings(index=index, device=device)
    from indexer.store import Store

    generation = Store(settings.index).open()
    facts = {"index": str(settings.index), "generation": generation.path.name}
    facts |= _facts(generation.manifest)
    if as_json:
        _print_json(facts)
        return
    for name, value in facts.items():
        click.echo(
            f"{name.replace('_', ' '):20} {value:,}"
            if isinstance(value, int)
            else f"{name.replace('_', ' '):20} {value}"
        )


@main.command()
@_index_options
def check(index: Path | None, device: str | None) -> None:
    """Compare every byte of the index with its checksums."""
    settings = _settings(index=index, device=device)
    from indexer.store import Store

    generation = Store(settings.index).open()
    files = generation.manifest.files
    size = sum(file["bytes"] for file in files.values())
    click.echo(f"{generation.path}: {len(files)} files, {size:,} bytes, all as they were written")


def _facts(manifest: Any) -> dict[str, Any]:
    facts = {k: v for k, v in vars(manifest).items() if k not in ("files", "reading")}
    facts["bytes"] = sum(file["bytes"] for file in manifest.files.values())
    return facts | {name: manifest.reading[name] for name in ("read", "rejected", "filtered", "duplicates")}


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))
