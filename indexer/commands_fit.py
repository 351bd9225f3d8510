"""The command that fits a ranker for an index."""

from pathlib import Path

import click

from indexer.options import engine_option, index_options, list_rejects, print_json, settings_of


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
