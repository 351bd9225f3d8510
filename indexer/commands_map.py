"""The command that draws the map of an index."""

from pathlib import Path

import click

from indexer.options import index_options, settings_of


@click.command("map")
@index_options
def draw_map(index: Path | None, device: str | None) -> None:
    """Draw the map of the index, which the page shows: a sample of its papers in two dimensions.

    Near each other are papers that are alike in meaning. The map is published with the index's next
    generation, which is otherwise the one before; updates and rebuilds then keep a map, too.
    """
    settings = settings_of(index=index, device=device)
    from indexer.atlas import add, read
    from indexer.progress import Bars

    with Bars() as bars:
        generation = add(settings.index, bars)
    count = len(read(generation.path).rows)
    click.echo(f"map of {count:,} of {generation.manifest.papers:,} papers at {settings.index}")
