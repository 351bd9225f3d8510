"""The commands for an author's own draft: cite, audit and export."""

import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import UserError
from indexer.options import filter_options, index_options, print_json, search_options, settings_of
from indexer.settings import RANKINGS, Settings

if TYPE_CHECKING:
    from data.filter import Filter
    from data.library import Bibliography
    from data.manuscript import Draft
    from indexer.cite import Change, Choice, Suggestion

# As data.keys and data.exports have them, which `--help` has no need to load.
STYLES = ("scholar", "acl", "author-year", "alpha", "id")
FORMATS = ("bibtex", "ris", "csl-json")

_draft = click.argument("draft", type=click.Path(path_type=Path))
_bib = click.option(
    "--bib",
    "bibs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A .bib file [default: the draft's].",
)
_ranking = click.option("--ranking", type=click.Choice(RANKINGS), help="[default: best]")
_style = click.option(
    "--key-style", default="scholar", show_default=True, type=click.Choice(STYLES), help="How new keys look."
)


@click.command()
@_draft
@_bib
@index_options
@search_options
@click.option("-k", type=click.IntRange(1, 1000), help="Papers for each mark [default: 10].")
@_ranking
@filter_options("Only")
@click.option("--write", is_flag=True, help="Put keys into the draft and entries into the .bib file.")
@click.option(
    "--accept-above",
    type=float,
    metavar="SCORE",
    help="Take the best paper where its score is at least this.",
)
@_style
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def cite(
    draft: Path,
    bibs: tuple[Path, ...],
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    k: int | None,
    ranking: str | None,
    keep: "Filter",
    write: bool,
    accept_above: float | None,
    key_style: str,
    as_json: bool,
) -> None:
    r"""Find papers for every mark of DRAFT, a .tex or .md file with all that it includes.

    Marks are [CITE], \cite{}, \cite{?}, \citep{TODO}, \todo{cite}, Markdown's [@?] and the like.
    Without --write nothing is changed; --accept-above then shows what would be. With --write alone each mark
    is asked about, one key for each; with --accept-above nothing is asked. Only the marks change, and of
    every file that is written there is a backup beside it (.bak).
    """
    asked = write and accept_above is None
    if asked and (as_json or not sys.stdin.isatty()):
        raise UserError("--write asks about each mark in a terminal; in a script add --accept-above SCORE")
    settings = settings_of(index=index, device=device, **searching, k=k, ranking=ranking)
    from indexer import cite as manuscript_pass

    found, libraries = manuscript_pass.open_draft(draft, bibs)
    _warn(found, libraries)
    k = manuscript_pass.SHOWN if asked else settings.k
    suggestions = _suggestions(found, libraries, settings, k, keep)
    if accept_above is not None:
        choices = manuscript_pass.accept_above(suggestions, accept_above)
    else:
        choices = _choices(suggestions, libraries) if asked else []
    made = manuscript_pass.changes(found, libraries, choices, key_style)  # type: ignore[arg-type]
    if as_json:
        facts = manuscript_pass.as_dict(found, libraries, suggestions)
        facts["changes"] = list(manuscript_pass.diff(made))
        facts["accepted"] = [_accepted(choice) for choice in choices]
        facts["backups"] = [str(path) for path in manuscript_pass.write(made)] if write else []
        print_json(facts)
        return
    if not choices and not asked:
        for number, suggestion in enumerate(suggestions):
            click.echo(("\n" if number else "") + "\n".join(manuscript_pass.table(suggestion, libraries)))
    _finish(made, suggestions, choices, write=write, offered=accept_above is None and not asked)


def _accepted(choice: "Choice") -> dict[str, object]:
    mark = choice.mark
    papers = [paper.paper_id for paper in choice.papers]
    return {"file": str(mark.source.path), "line": mark.line, "start": mark.start, "paper_ids": papers}


def _warn(draft: "Draft", libraries: "list[Bibliography]") -> None:
    for line in draft.unread:
        click.echo(f"not read: {line}", err=True)
    for library in libraries:
        for reject in library.rejects:
            click.echo(f"not read: {library.path}: {reject}", err=True)


def _suggestions(
    draft: "Draft", libraries: "list[Bibliography]", settings: Settings, k: int, keep: "Filter"
) -> "list[Suggestion]":
    from indexer.cite import suggest
    from indexer.search import Searcher

    return suggest(draft, libraries, Searcher(settings), k, keep) if draft.marks else []


def _choices(suggestions: "list[Suggestion]", libraries: "list[Bibliography]") -> "list[Choice]":
    from indexer.cite import choose

    return choose(suggestions, libraries, click.getchar, click.echo, webbrowser.open)


def _finish(
    made: "list[Change]",
    suggestions: "list[Suggestion]",
    choices: "list[Choice]",
    *,
    write: bool,
    offered: bool,
) -> None:
    """Write or show the changes, and say so."""
    from indexer import cite as manuscript_pass

    if not suggestions:
        click.echo("the draft has no mark: put [CITE] where a citation belongs", err=True)
        return
    if write:
        backups = manuscript_pass.write(made)
        for change in made:
            click.echo(f"wrote {change.new.path}")
        for backup in backups:
            click.echo(f"as it was: {backup}")
    else:
        for line in manuscript_pass.diff(made):
            click.echo(line)
    cited = f"{len(choices)} of {len(suggestions)} marks cited"
    hint = (
        "" if write else "; add --write to be asked about each" if offered else "; add --write to write this"
    )
    click.echo(f"{f'{len(suggestions)} marks' if offered else cited}{hint}", err=True)


@click.command()
@_draft
@_bib
@index_options
@search_options
@_ranking
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def audit(
    draft: Path,
    bibs: tuple[Path, ...],
    index: Path | None,
    device: str | None,
    searching: dict[str, Any],
    ranking: str | None,
    as_json: bool,
) -> None:
    """List what to look at in DRAFT and its .bib file.

    Citations whose paper stands low among the candidates for their sentence, with those that lead; sentences
    that state a fact of others and cite nothing; keys without an entry; entries that are never cited, that
    match no record of the corpus, or that differ from it in title, year or id. Nothing is changed.
    """
    settings = settings_of(index=index, device=device, **searching, ranking=ranking)
    from indexer import audit as auditor
    from indexer.cite import open_draft
    from indexer.search import Searcher

    found, libraries = open_draft(draft, bibs)
    _warn(found, libraries)
    for library in libraries:
        if not library.path.exists():
            raise UserError(f"{library.path}: no such file; name the .bib file with --bib")
    result = auditor.audit(found, libraries, Searcher(settings))
    if as_json:
        print_json(auditor.as_dict(result))
    else:
        click.echo("\n".join(auditor.report(result)))


@click.command()
@click.argument("papers", nargs=-1, required=True)
@index_options
@click.option(
    "--format",
    "form",
    default="bibtex",
    show_default=True,
    type=click.Choice(FORMATS),
    help="Format of the references.",
)
@_style
def export(
    papers: tuple[str, ...], index: Path | None, device: str | None, form: str, key_style: str
) -> None:
    """Print PAPERS of the index, given by id, as BibTeX, RIS or CSL-JSON.

    An id is one that `indexer search --json` shows: arxiv:1706.03762, acl:N19-1423, doi:10.1000/182; a bare
    arXiv number will do.
    """
    settings = settings_of(index=index, device=device)
    from data.exports import export as exported
    from data.matching import find_records
    from data.paper import ARXIV_ID, Paper
    from data.table import PaperTable
    from indexer.store import Store

    table = PaperTable(Store(settings.index).open().path / "papers.arrow")
    rows = {paper_id: row for row, paper_id in enumerate(table.ids())}
    names = [f"arxiv:{number['id']}" if (number := ARXIV_ID.fullmatch(name)) else name for name in papers]
    known = find_records(table, [Paper(name, "") for name in names])
    missing = [name for name, match in zip(names, known, strict=True) if name not in rows and not match]
    if missing:
        raise UserError(f"{settings.index} has no paper {missing[0]}; `indexer search --json` shows ids")
    places = [match[0] if match else rows[name] for name, match in zip(names, known, strict=True)]
    found = table.take(places)
    click.echo(exported(found, form, key_style), nl=False)  # type: ignore[arg-type]
