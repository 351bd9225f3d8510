"""The command that searches."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.options import (
    draft_options,
    filter_options,
    index_options,
    print_json,
    search_options,
    settings_of,
)
from indexer.settings import RANKINGS, Settings

if TYPE_CHECKING:
    from data.filter import Filter
    from data.paper import Paper
    from indexer.search import Hit


@click.command()
@click.argument("text")
@index_options
@search_options
@click.option("-k", type=click.IntRange(1, 1000), help="Papers to list [default: 10].")
@click.option("--ranking", type=click.Choice(RANKINGS), help="[default: best]")
@filter_options("Only")
@draft_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def search(
    text: str,
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    k: int | None,
    ranking: str | None,
    keep: "Filter",
    draft: "Paper | None",
    as_json: bool,
) -> None:
    """List the papers for each [CITE] of TEXT (`-` reads it from stdin); without a mark, for TEXT."""
    settings = settings_of(index=index, device=device, **searching, k=k, ranking=ranking)
    from data.contexts import parse

    contexts = parse(_stdin() if text == "-" else text)
    from indexer.answers import answer
    from indexer.search import Searcher

    searcher = Searcher(settings)
    answers = searcher.search(contexts, keep=keep, draft=draft)
    if as_json:
        print_json(answer(searcher, contexts, answers))
        return
    for number, (context, hits) in enumerate(zip(contexts, answers, strict=True)):
        if len(contexts) > 1:
            click.echo(("\n" if number else "") + context.text)
        if searcher.nothing_fits(hits):
            click.echo("     nothing in this corpus fits well; the nearest are:")
        for hit in hits:
            click.echo(_line(hit))
        if not hits:
            click.echo(_nothing(settings, keep), err=True)


def _nothing(settings: Settings, keep: "Filter") -> str:
    if settings.ranking != "bm25":
        return "no paper passes the filter"
    which = "no paper that passes the filter" if keep else "no paper"
    return f"{which} shares a word with the text; try --ranking best"


def _line(hit: "Hit") -> str:
    """A hit as two lines of text."""
    paper = hit.paper
    who = ", ".join(paper.authors) if len(paper.authors) <= 2 else f"{paper.authors[0]} et al."
    facts = [who, str(paper.year or ""), paper.url or paper.paper_id]
    from indexer.answers import score_of

    return f"{hit.rank:3}  {score_of(hit):>6}  {paper.title}\n{'':13}" + "  ".join(f for f in facts if f)


def _stdin() -> str:
    """The text on stdin, as far as no query is longer."""
    return sys.stdin.buffer.read(1 << 20).decode("utf-8", errors="replace")
