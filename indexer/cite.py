"""The manuscript pass: papers for every mark of a draft, and the keys and entries written where they belong.

Nothing is cited that is not a record of the corpus: every key and every entry is made from a hit.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import unified_diff
from functools import partial
from pathlib import Path
from typing import Any

from data.contexts import CITE, OTHER, Context
from data.errors import UserError
from data.filter import Filter
from data.keys import KeyStyle
from data.library import Bibliography, keys_for, read_bibliography, with_entries
from data.manuscript import LATEX, MARKDOWN, Draft, Mark, Source, fill, parse_draft, read_draft, source_of
from data.matching import normal_title, same_paper
from data.paper import Paper
from indexer.answers import score_of
from indexer.search import Hit, Searcher

SHOWN = 9  # papers a mark can be asked about: each is one key
BATCH = 16  # marks between two steps of the progress

Progress = Callable[[int, int], object]
"""Called with (marks answered, marks)."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A mark and the papers found for it, best first."""

    mark: Mark
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A mark and the papers to cite there."""

    mark: Mark
    papers: tuple[Paper, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """A file as it was read and as it is to be."""

    old: Source
    new: Source


def open_draft(path: Path, bibs: Sequence[Path] = ()) -> tuple[Draft, list[Bibliography]]:
    """A draft and its .bib files: those given, else those that it names. The first one takes new entries."""
    draft = read_draft(path)
    libraries = [read_bibliography(bib) for bib in bibs or draft.bibliographies]
    return _with_known(draft, libraries), libraries


def uploaded_draft(files: Sequence[tuple[str, bytes]], libraries: Sequence[Bibliography] = ()) -> Draft:
    """A draft from the names and contents of its files, the one that begins the document first.

    Raises UserError for a file that is no LaTeX, Markdown or text.
    """
    wrong = next((name for name, _ in files if Path(name).suffix.lower() not in LATEX + MARKDOWN), None)
    if wrong is not None:
        raise UserError(f"{wrong}: a draft's files end in {', '.join(LATEX + MARKDOWN)}")
    sources = [source_of(Path(name), content) for name, content in files]
    return _with_known(parse_draft(sorted(sources, key=lambda source: not source.body)), libraries)


def _with_known(draft: Draft, libraries: Sequence[Bibliography]) -> Draft:
    """The draft, its placeholders that are keys of the libraries read as keys."""
    keys = {key for library in libraries for key in library.keys}
    if any(mark.placeholder in keys for mark in draft.marks):
        return parse_draft(draft.sources, draft.unread, keys)
    return draft


def suggest(
    draft: Draft,
    libraries: Sequence[Bibliography],
    searcher: Searcher,
    k: int | None = None,
    keep: Filter | None = None,
) -> list[Suggestion]:
    """The best k papers (of those that pass `keep`) for each mark of the draft.

    Left out are the draft itself and what the same command cites already.
    """
    cited = [mark_papers(mark, libraries) for mark in draft.marks]
    found = find(searcher, [mark.context for mark in draft.marks], k, None, keep, draft.told, cited)
    return [Suggestion(mark, hits) for mark, hits in zip(draft.marks, found, strict=True)]


def find(
    searcher: Searcher,
    contexts: Sequence[Context],
    k: int | None = None,
    ranking: str | None = None,
    keep: Filter | None = None,
    draft: Paper | None = None,
    cited: Sequence[Sequence[Paper]] = (),
    progress: Progress = lambda done, total: None,
    run: Callable[[Callable[[], list[list[Hit]]]], list[list[Hit]]] = lambda work: work(),
) -> list[tuple[Hit, ...]]:
    """The best k papers for each context, but for the draft itself and what it cites there already.

    What is known of the draft helps to find them: see Searcher.search. They are found in batches of BATCH
    contexts, each through `run`, for instance a queue's; a context without words has none.
    """
    k = searcher.settings.k if k is None else k
    cited = cited or [()] * len(contexts)
    more = bool(draft) + max(map(len, cited), default=0)
    spelt = normal_title(draft.title) if draft else ""
    found: list[tuple[Hit, ...]] = []
    for start in range(0, len(contexts), BATCH):
        batch = contexts[start : start + BATCH]
        asked = [context for context in batch if _has_words(context)]
        search = partial(searcher.search, asked, min(k + more, 1000), ranking, keep, draft)
        answers = iter(run(search) if asked else ())
        for place, context in enumerate(batch, start):
            hits = next(answers) if _has_words(context) else ()
            found.append(tuple(_without(hits, spelt, cited[place], k)))
        progress(len(found), len(contexts))
    return found


def _has_words(context: Context) -> bool:
    text = context.text.replace(CITE, "").replace(OTHER, "")
    return any(map(str.isalnum, text))


def mark_papers(mark: Mark, libraries: Sequence[Bibliography]) -> list[Paper]:
    """What the command of the mark cites already, as far as the libraries have it."""
    entries = (library.entry(key) for key in mark.beside for library in libraries)
    return [entry.paper for entry in entries if entry]


def _without(hits: Sequence[Hit], title: str, cited: Sequence[Paper], k: int) -> list[Hit]:
    kept = (
        hit
        for hit in hits
        if not (title and normal_title(hit.paper.title) == title)
        and not any(same_paper(hit.paper, paper) for paper in cited)
    )
    return [replace(hit, rank=rank) for rank, hit in zip(range(1, k + 1), kept, strict=False)]


def accept_above(suggestions: Iterable[Suggestion], score: float) -> list[Choice]:
    """The best paper of each mark, where its score is at least this one."""
    return [Choice(s.mark, (s.hits[0].paper,)) for s in suggestions if s.hits and s.hits[0].score >= score]


def changes(
    draft: Draft, libraries: Sequence[Bibliography], choices: Sequence[Choice], style: KeyStyle = "scholar"
) -> list[Change]:
    """What the choices do to the files: the .bib file first, so that no key is without its entry.

    Raises UserError where new entries have no .bib file to go to.
    """
    papers = {paper.paper_id: paper for choice in choices for paper in choice.papers}
    keys = keys_for(papers.values(), libraries, style)
    known = {key for library in libraries for key in library.keys}
    new = [(paper, keys[paper.paper_id]) for paper in papers.values() if keys[paper.paper_id] not in known]
    if new and not libraries:
        raise UserError(f"{draft.sources[0].path} names no .bib file for the entries; add --bib refs.bib")
    made = [Change(libraries[0].source, with_entries(libraries[0], new))] if new else []
    for source in draft.sources:
        filled = [
            (choice.mark, [keys[paper.paper_id] for paper in choice.papers])
            for choice in choices
            if choice.mark.source is source and choice.papers
        ]
        if filled:
            made.append(Change(source, fill(source, filled)))
    return made


def diff(made: Iterable[Change]) -> Iterator[str]:
    """The changes as lines of a unified diff."""
    for change in made:
        name = str(change.old.path)
        old, new = (source.text.split("\n") for source in (change.old, change.new))
        for line in unified_diff(old, new, f"{name} (as it is)", name, lineterm="", n=1):
            yield line.removesuffix("\r")


def write(made: Sequence[Change]) -> list[Path]:
    """Write the changes, each file at once or not at all, and give the paths of the backups.

    A backup is `name.bak`, or `name.bak2` and so on where one is there already. Raises UserError, before
    anything is written, for a file that has changed since it was read.
    """
    for change in made:
        path = change.old.path
        now = path.read_bytes() if path.exists() else b""
        if now != change.old.content:
            raise UserError(f"{path} was changed since it was read; run the command again")
    backups = []
    for change in made:
        try:
            backups += _replace(change.new.path.resolve(), change.new.content)
        except OSError as error:
            raise UserError(f"{change.new.path}: cannot be written ({error.strerror or error})") from None
    return backups


def _replace(path: Path, content: bytes) -> list[Path]:
    backups = [_backup(path)] if path.exists() else []
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, name)
        else:
            Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    return backups


def _backup(path: Path) -> Path:
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak{number if number > 1 else ''}")
        try:
            with backup.open("xb") as file:
                file.write(path.read_bytes())
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            number += 1
            continue
        shutil.copystat(path, backup)
        return backup


def choose(
    suggestions: Sequence[Suggestion],
    libraries: Sequence[Bibliography],
    ask: Callable[[], str],
    show: Callable[[str], Any],
    browse: Callable[[str], Any],
) -> list[Choice]:
    """What a person chooses: one key for each mark, as `ask` gives them; see HELP."""
    chosen: dict[int, tuple[Paper, ...]] = {}
    at = 0
    while 0 <= at < len(suggestions):
        suggestion = suggestions[at]
        show(f"\n{at + 1} of {len(suggestions)}  " + "\n".join(table(suggestion, libraries)))
        step, papers = _ask(suggestion, ask, show, browse)
        chosen[at] = papers
        at = len(suggestions) if step is None else max(at + step, 0)
    return [Choice(suggestions[number].mark, papers) for number, papers in chosen.items() if papers]


HELP = "1-9 accept  + and 1-9 one of several  s skip  o and 1-9 open  a and 1-9 abstract  b back  q finish"


def _ask(
    suggestion: Suggestion, ask: Callable[[], str], show: Callable[[str], Any], browse: Callable[[str], Any]
) -> tuple[int | None, tuple[Paper, ...]]:
    """How many marks to go on (None: no further) and the papers for this one."""
    papers: tuple[Paper, ...] = ()
    show(HELP)
    while True:
        key = ask()
        hit = _hit(suggestion, key if key.isdigit() else ask() if key in ("+", "o", "a") else "")
        if hit and key.isdigit():
            return 1, _added(papers, hit, show)
        if hit and key == "+":
            papers = _added(papers, hit, show)
        elif hit and key == "o" and hit.paper.url:
            browse(hit.paper.url)
            show(f"  opened {hit.paper.url}")
        elif hit and key == "a":
            show(f"  {hit.paper.abstract or 'the corpus has no abstract of it'}")
        elif key in ("s", " ", "\r", "\n"):
            return 1, papers
        elif key in ("b", "q"):
            return (-1 if key == "b" else None), papers
        else:
            show(HELP)


def _hit(suggestion: Suggestion, digit: str) -> Hit | None:
    place = int(digit) if digit.isdecimal() else 0
    return suggestion.hits[place - 1] if 1 <= place <= len(suggestion.hits) else None


def _added(papers: tuple[Paper, ...], hit: Hit, show: Callable[[str], Any]) -> tuple[Paper, ...]:
    show(f"  cited: {hit.paper.title}")
    return papers if hit.paper in papers else (*papers, hit.paper)


def table(suggestion: Suggestion, libraries: Sequence[Bibliography]) -> Iterator[str]:
    """A mark and its papers as lines of text."""
    yield f"{suggestion.mark.place}  {suggestion.mark.context.text}"
    for place, hit in enumerate(suggestion.hits, 1):
        yield from hit_lines(place, hit, libraries)
    if not suggestion.hits:
        yield "     no paper was found"


def hit_lines(place: int, hit: Hit, libraries: Sequence[Bibliography]) -> Iterator[str]:
    """A paper that was found, in two lines, with its key if a .bib file has it."""
    paper = hit.paper
    who = ", ".join(paper.authors) if len(paper.authors) <= 2 else f"{paper.authors[0]} et al."
    known = next(filter(None, map(_known_as(paper), libraries)), "")
    yield f"{place:3}  {score_of(hit):>6}  {paper.title}"
    facts = (who, str(paper.year or ""), paper.url or paper.paper_id, known)
    yield f"{'':13}" + "  ".join(fact for fact in facts if fact)


def _known_as(paper: Paper) -> Callable[[Bibliography], str]:
    def known(library: Bibliography) -> str:
        key = library.key_of(paper)
        return f"in {library.path.name} as {key}" if key else ""

    return known


def as_dict(
    draft: Draft, libraries: Sequence[Bibliography], suggestions: Sequence[Suggestion]
) -> dict[str, Any]:
    """For JSON: the draft, and its marks with what was found for each."""
    return {
        "draft": {
            "title": draft.title,
            "abstract": draft.abstract,
            "files": [str(source.path) for source in draft.sources],
            "bibliographies": [str(library.path) for library in libraries],
            "unread": list(draft.unread),
            "citations": len(draft.citations),
        },
        "marks": [
            {
                "file": str(s.mark.source.path),
                "line": s.mark.line,
                "start": s.mark.start,
                "stop": s.mark.stop,
                "mark": s.mark.placeholder,
                "text": s.mark.context.text,
                "hits": [hit.as_dict() | {"key": _key(hit.paper, libraries)} for hit in s.hits],
            }
            for s in suggestions
        ],
    }


def _key(paper: Paper, libraries: Sequence[Bibliography]) -> str | None:
    return next(filter(None, (library.key_of(paper) for library in libraries)), None)
