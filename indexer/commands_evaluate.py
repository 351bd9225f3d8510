"""The commands that learn from real citations: evaluate measures an index, fit fits its ranking."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.options import index_options, list_rejects, print_json, search_options, settings_of
from indexer.settings import STAGES, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data.contexts import Query

_queries = click.option(
    "--queries", "count", type=click.IntRange(1), metavar="N", help="Only N of CONTEXTS, always the same."
)


@click.command()
@click.argument("contexts")
@index_options
@search_options
@click.option("--ranking", "rankings", multiple=True, type=click.Choice(STAGES), help="[default: all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for run, qrels and report.")
@click.option("--trained", help="Contexts that the encoder was trained on: what they cite is measured apart.")
@click.option("--inductive", is_flag=True, help="Only papers of the citing paper's year or before.")
@_queries
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    contexts: str,
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    rankings: tuple[str, ...],
    out: Path | None,
    trained: str | None,
    inductive: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Measure recall on CONTEXTS: a .parquet or .jsonl file of text, citing_id, cited_id, or a BEIR
    folder. `starter` is the starter corpus's own set."""
    settings = settings_of(index=index, device=device, **searching)
    from data.contexts import drawn, read_queries
    from data.corpus import STARTER

    path = str(STARTER.parent / "contexts.jsonl") if contexts == "starter" else contexts
    every, reading = read_queries(path)
    queries = drawn(every, count)
    from indexer import report as shown
    from indexer.evaluate import evaluate as measure
    from indexer.evaluate import rows_for
    from indexer.overview import evaluation_of
    from indexer.progress import Bars
    from indexer.search import Searcher

    list_rejects(reading)
    out = out or evaluation_of(settings.index)
    searcher = Searcher(settings)
    with Bars() as bars:
        report = measure(
            searcher,
            queries,
            rankings or rows_for(searcher, queries),
            out,
            contexts,
            {cited for query in read_queries(trained)[0] for cited in query.cited_ids} if trained else None,
            inductive,
            bars,
            drawn_from=len(every) if len(queries) < len(every) else None,
        )
    shown.write(out / "report.html", report)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo("\n".join(shown.table(report)))
        click.echo(f"report.html, report.json, run and qrels are in {out}")


@click.command()
@click.argument("contexts")
@index_options
@search_options
@click.option("--out", type=click.Path(path_type=Path), help="The file of the ranker to write.")
@click.option(
    "--also",
    nargs=2,
    multiple=True,
    metavar="CONTEXTS INDEX",
    help="More contexts, and an index whose encoder was not trained on these; may be repeated.",
)
@click.option("--encoder", help="The encoder that the ranker is for [default: that of --index].")
@_queries
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit(
    contexts: str,
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    out: Path | None,
    also: tuple[tuple[str, str], ...],
    encoder: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Fit a ranker for the index on CONTEXTS, or after it a reranker.

    CONTEXTS is a .parquet or .jsonl file of text, citing_id, cited_id: contexts that the index's encoder was
    not trained on, some thousand. With --out a ranker is fitted: whoever has CITEMARK_RANKER=FILE in the
    environment uses it, on an index by the same encoder. More encoders of one training, each without other
    contexts (--also), give it more to learn from. With --reranker FOLDER it is fitted how much that
    reranker counts after the ranker, on some hundred contexts that neither of the two was trained on; the
    folder keeps it.
    """
    if (out is None) == (searching["reranker"] is None):
        raise click.UsageError("give --out FILE to fit a ranker, or --reranker FOLDER to fit that reranker")
    if (also or encoder) and not out:
        raise click.UsageError("--also and --encoder are for a ranker: give --out FILE with them")
    settings = settings_of(index=index, device=device, **searching)
    if out:
        given = [(contexts, str(settings.index)), *also]
        parts = [(_read(file, count), replace(settings, index=Path(place))) for file, place in given]
        _fit_ranker(parts, encoder, out, as_json)
    elif settings.reranker:
        _fit_reranker(settings, _read(contexts, count), settings.reranker, as_json)


def _read(contexts: str, count: int | None) -> "Sequence[Query]":
    from data.contexts import drawn, read_queries

    every, reading = read_queries(contexts)
    list_rejects(reading)
    return drawn(every, count)


def _fit_ranker(
    parts: "Sequence[tuple[Sequence[Query], Settings]]", encoder: str | None, out: Path, as_json: bool
) -> None:
    from indexer.fit import Part, fit_ranker
    from indexer.progress import Bars
    from indexer.search import Searcher
    from model.encoder import Encoder

    given = [Part(Searcher(settings), queries) for queries, settings in parts]
    if encoder:
        fingerprint = Encoder(encoder, parts[0][1].device).fingerprint
    else:
        fingerprint = given[0].searcher.snapshot.manifest.encoder_fingerprint
    with Bars() as bars:
        fitted = fit_ranker(given, fingerprint, bars)
    digest = fitted.ranker.save(out)
    if as_json:
        print_json({"file": str(out), "sha256": digest} | fitted.as_dict())
        return
    count = sum(len(part.queries) for part in given)
    click.echo(f"fitted on {fitted.lists:,} lists of candidates for {count:,} contexts")
    click.echo(
        f"nothing fits: said below a probability of {fitted.ranker.threshold:.3f}; with the cited papers "
        f"taken out the lists are told apart with AUROC {fitted.auroc:.3f}"
    )
    click.echo(f"{out}: sha256 {digest}")


def _fit_reranker(settings: Settings, queries: "Sequence[Query]", folder: Path, as_json: bool) -> None:
    from indexer.fit_second import fit_second
    from indexer.progress import Bars
    from indexer.search import Searcher

    with Bars() as bars:
        fitted = fit_second(Searcher(settings), queries, bars)
    path = fitted.blend.save(folder)
    if as_json:
        print_json({"file": str(path)} | fitted.as_dict())
        return
    blend = fitted.blend
    click.echo(
        f"fitted on the first {settings.rerank_depth} papers for {fitted.lists:,} contexts: a logit counts "
        f"{blend.weight:.3f} of the log odds"
    )
    click.echo(f"a cited paper on top of {fitted.before:.1%} of these lists before, {fitted.after:.1%} after")
    click.echo(f"nothing fits: said below a probability of {blend.threshold:.3f}")
    click.echo(str(path))
