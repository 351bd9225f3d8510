"""What the commands share: the options of an index, their settings, and JSON on stdout."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from indexer.settings import DEVICES, Settings, from_environment

if TYPE_CHECKING:
    from data.corpus import Reading

LISTED = 10  # rejects that a command prints


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --index and --device."""
    for option in (
        click.option("--device", type=click.Choice(DEVICES), help="Where to compute [default: auto]."),
        click.option("--index", type=click.Path(path_type=Path), help="The index's folder."),
    ):
        command = option(command)
    return command


def filter_options(verb: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a filter, as in "`verb` papers of this year and later"; it comes as `keep`."""

    def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def filtered(
            *args: Any,
            categories: tuple[str, ...],
            since: int | None,
            until: int | None,
            authors: tuple[str, ...],
            **options: Any,
        ) -> Any:
            from data.filter import Filter

            return command(*args, keep=Filter(categories, since, until, authors), **options)

        for option in (
            click.option(
                "--author", "authors", multiple=True, help=f"{verb} papers by this author; may be repeated."
            ),
            click.option("--until", type=int, help=f"{verb} papers of this year and earlier."),
            click.option("--since", type=int, help=f"{verb} papers of this year and later."),
            click.option(
                "--category", "categories", multiple=True, help=f"{verb} this category; may be repeated."
            ),
        ):
            filtered = option(filtered)
        return filtered

    return with_options


def draft_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --draft-title and --draft-abstract; they come as `draft`, a Paper or None."""

    @wraps(command)
    def with_draft(*args: Any, draft_title: str, draft_abstract: str, **options: Any) -> Any:
        from data.clean import text
        from data.paper import Paper

        title, abstract = text(draft_title), text(draft_abstract)
        return command(*args, draft=Paper("", title, abstract) if title or abstract else None, **options)

    for option in (
        click.option("--draft-abstract", default="", help="Its abstract."),
        click.option("--draft-title", default="", help="The title of what you write: it helps to rank."),
    ):
        with_draft = option(with_draft)
    return with_draft


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options --engine, --reranker and --rerank-depth of what searches; they come as `searching`."""

    @wraps(command)
    def searched(
        *args: Any, engine: str | None, reranker: Path | None, rerank_depth: int | None, **options: Any
    ) -> Any:
        searching = {"engine": engine, "reranker": reranker, "rerank_depth": rerank_depth}
        return command(*args, searching=searching, **options)

    for option in (
        click.option("--rerank-depth", type=click.IntRange(1, 300), help="Hits that it reads [default: 20]."),
        click.option(
            "--reranker",
            metavar="FOLDER",
            type=click.Path(path_type=Path),
            help="A fitted reranker, which reads the first hits of `best` again.",
        ),
        click.option("--engine", metavar="local|milvus://…", help="What searches [default: local]."),
    ):
        searched = option(searched)
    return searched


def contexts_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --contexts, of the commands that write an index."""
    option = click.option("--contexts", metavar="FILE", help="Citing contexts that the index is to know.")
    return option(command)


def rejects_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --max-rejects, of the commands that read a corpus into an index."""
    option = click.option(
        "--max-rejects",
        type=click.FloatRange(0, 1),
        default=0.05,
        show_default=True,
        help="Share of bad records.",
    )
    return option(command)


def settings_of(**flags: Any) -> Settings:
    """The settings of the flags that were given, over those of the environment."""
    return replace(from_environment(), **{k: v for k, v in flags.items() if v is not None})


def print_json(value: Any) -> None:
    """Write a value to stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def list_rejects(reading: "Reading", file: Path | None = None) -> None:
    """Tell the first rejected records on stderr, and where the others are listed."""
    for reject in reading.rejects[:LISTED]:
        click.echo(f"rejected {reject}", err=True)
    if reading.rejected > LISTED:
        where = f", listed in {file}" if file else ""
        click.echo(f"… and {reading.rejected - LISTED:,} more{where}", err=True)
