"""`indexer publish`: an index to Milvus, where machines without a copy in memory search it."""

from pathlib import Path

import click

from indexer.options import index_options, print_json, settings_of

KIND_NAMES = ("flat", "hnsw", "hnsw-sq", "ivf-pq", "diskann", "gpu-cagra", "gpu-brute-force")


@click.command()
@index_options
@click.option("--to", "target", required=True, help="milvus://HOST:PORT/NAME, or milvus:///DIR/FILE.db/NAME.")
@click.option("--kind", type=click.Choice(KIND_NAMES), help="Kind of index [default: by the size].")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def publish(index: Path | None, device: str | None, target: str, kind: str | None, as_json: bool) -> None:
    """Send the newest index to Milvus, for searches with --engine.

    Searches see it when it is whole, in one step; a publication that was killed goes on when the same
    command is run again. A token or user:password is read from CITEMARK_MILVUS_TOKEN.
    """
    settings = settings_of(index=index, device=device)
    from indexer.milvus_address import parse
    from indexer.progress import Bars
    from indexer.publish import publish as publish_index

    address = parse(target)
    with Bars() as bars:
        done = publish_index(settings.index, address, kind, bars)
    if as_json:
        print_json({"index": str(settings.index), "engine": str(address), **vars(done)})
        return
    what = f"{done.sent:,} sent in {done.seconds:.1f} s" if done.sent else "all there already"
    click.echo(f"{done.papers:,} papers in {done.collection} ({done.kind}), {what}")
    click.echo(f"search them with: indexer search … --index {settings.index} --engine {address}")
