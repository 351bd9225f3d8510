"""The command that brings an index up to date."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import UserError
from indexer.options import (
    contexts_option,
    index_options,
    list_rejects,
    print_json,
    rejects_option,
    settings_of,
)

if TYPE_CHECKING:
    from indexer.update import Counts


@click.command()
@click.argument("source", required=False)
@index_options
@contexts_option
@click.option("--whole", is_flag=True, help="SOURCE is all papers: withdraw what is not in it.")
@click.option(
    "--remove", "removed", multiple=True, metavar="ID|FILE", help="Withdraw a paper, or a file's ids."
)
@click.option("--encoder", help="Refuse the index if it was not built with this one.")
@rejects_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def update(
    source: str | None,
    index: Path | None,
    device: str | None,
    contexts: str | None,
    whole: bool,
    removed: tuple[str, ...],
    encoder: str | None,
    max_rejects: float,
    as_json: bool,
) -> None:
    """Bring the index up to date with SOURCE; only new and changed texts are encoded.

    SOURCE, as for `indexer build`, holds new papers and changed ones; a record of a lower version than
    the index has is left aside. With --whole it holds all papers, and those that are not in it are
    withdrawn. --remove withdraws by id; a file has one id a line. The categories, years and authors that
    the index was built for apply. An update that was killed goes on when the same command is run again.
    """
    if source is None and (whole or not (removed or contexts)):
        raise click.UsageError("give a SOURCE, or --remove or --contexts alone")
    settings = settings_of(index=index, device=device)
    from indexer.progress import Bars
    from indexer.update import Change
    from indexer.update import update as bring_up_to_date

    change = Change(source, whole, tuple(paper_id for name in removed for paper_id in _ids(name)), contexts)
    given = None
    if encoder:
        from model.encoder import Encoder

        given = Encoder(encoder, settings.device)
    with Bars() as bars:
        generation, counts, reading = bring_up_to_date(
            settings.index, change, given, max_rejects, bars, settings.device
        )
    list_rejects(reading)
    if as_json:
        facts: dict[str, Any] = {"index": str(settings.index), "generation": generation.path.name}
        print_json(
            facts | vars(counts) | {"papers": generation.manifest.papers, "rejected": reading.rejected}
        )
        return
    click.echo(told(counts))
    click.echo(f"index of {generation.manifest.papers:,} papers at {settings.index}")


def _ids(name: str) -> list[str]:
    """An id, or those in a file of that name."""
    path = Path(name)
    if not path.is_file():
        return [name]
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read; give a text file of one id a line") from None


def told(counts: "Counts") -> str:
    """The counts in a line, those that are not zero."""
    names = {"unknown": "to withdraw unknown", "older": "older than the index's", "citations": "citations"}
    shown = ("added", "changed", "withdrawn", "encoded", "citations", "older", "unknown")
    parts = [f"{getattr(counts, n):,} {names.get(n, n)}" for n in shown if getattr(counts, n)]
    return ", ".join(parts) if counts else ", ".join(["nothing new", *parts])
