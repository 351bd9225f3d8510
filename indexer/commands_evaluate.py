"""The commands that learn from real citations: evaluate measures an index, fit makes a ranker for it."""

from pathlib import Path

import click

from indexer.options import engine_option, index_options, list_rejects, print_json, settings_of
from indexer.settings import STAGES


@click.command()
@click.argument("contexts")
@index_options
@engine_option
@click.option("--ranking", "rankings", multiple=True, type=click.Choice(STAGES), help="[default: all]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for run, qrels and report.")
@click.option("--trained", help="Contexts that the encoder was trained on: what they cite is measured apart.")
@click.option("--inductive", is_flag=True, help="Only papers of the citing paper's year or before.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def evaluate(
    contexts: str,
    index: Path | None,
    device: str | None,
    engine: str | None,
    rankings: tuple[str, ...],
    out: Path | None,
    trained: str | None,
    inductive: bool,
    as_json: bool,
) -> None:
    """Measure recall on CONTEXTS: a .parquet or .jsonl file of text, citing_id, cited_id, or a BEIR
    folder. `starter` is the starter corpus's own set."""
    settings = settings_of(index=index, device=device, engine=engine)
    from data.contexts import read_queries
    from data.corpus import STARTER

    path = str(STARTER.parent / "contexts.jsonl") if contexts == "starter" else contexts
    queries, reading = read_queries(path)
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
@engine_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fit(
    contexts: str, index: Path | None, device: str | None, engine: str | None, out: Path, as_json: bool
) -> None:
    """Fit a ranker for the index on CONTEXTS: a .parquet or .jsonl file of text, citing_id, cited_id.

    They should be contexts that the index's encoder was not trained on; some thousand are enough. The file
    is used by whoever has CITEMARK_RANKER=FILE in the environment, on an index by the same encoder.
    """
    settings = settings_of(index=index, device=device, engine=engine)
    from data.contexts import read_queries
    from indexer.fit import fit_ranker
    from indexer.progress import Bars
    from indexer.search import Searcher

    queries, reading = read_queries(contexts)
    list_rejects(reading)
    with Bars() as bars:
        fitted = fit_ranker(Searcher(settings), queries, bars)
    digest = fitted.ranker.save(out)
    if as_json:
        print_json({"file": str(out), "sha256": digest} | fitted.as_dict())
        return
    click.echo(f"fitted on {fitted.lists:,} lists of candidates for {len(queries):,} contexts")
    click.echo(
        f"nothing fits: said below a probability of {fitted.ranker.threshold:.3f}; with the cited papers "
        f"taken out the lists are told apart with AUROC {fitted.auroc:.3f}"
    )
    click.echo(f"{out}: sha256 {digest}")
