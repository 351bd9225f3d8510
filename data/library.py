"""A .bib file that is there already: which papers it has, under which keys, and how it takes new ones."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.bibliography import bibtex, bibtex_records
from data.clean import Rejected, to_paper
from data.errors import UserError
from data.keys import KeyStyle, unique_key
from data.manuscript import Source, read_source, source_of
from data.matching import Known
from data.paper import Paper

_KEY = re.compile(r"^[ \t]*@[A-Za-z]+\s*[{(]\s*([^\s,{}()]+)\s*,", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the file: its key, the line it starts in, and the paper that it describes."""

    key: str
    place: str
    paper: Paper


@dataclass(frozen=True)
class Bibliography:
    """A .bib file as it was read. `rejects` are its broken entries, as `line 7: …`."""

    source: Source
    entries: tuple[Entry, ...]
    rejects: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where it is, or will be."""
        return self.source.path

    @cached_property
    def keys(self) -> frozenset[str]:
        """All its keys, of broken entries too."""
        return frozenset(_KEY.findall(self.source.text)) | {entry.key for entry in self.entries}

    @cached_property
    def _known(self) -> Known:
        return Known(entry.paper for entry in self.entries)

    def key_of(self, paper: Paper) -> str | None:
        """The key under which it has the paper: found by arXiv id, Anthology id, DOI or title."""
        place = self._known.find(paper)
        return None if place is None else self.entries[place].key

    def entry(self, key: str) -> Entry | None:
        """The entry of a key."""
        return next((entry for entry in self.entries if entry.key == key), None)


def read_bibliography(path: Path) -> Bibliography:
    """A .bib file, or an empty one where there is none yet. Raises UserError for a file that is no text."""
    return parse_bibliography(read_source(path) if path.exists() else source_of(path, b""))


def parse_bibliography(source: Source) -> Bibliography:
    """A .bib file that was read."""
    entries, rejects = [], []
    for place, record in bibtex_records(source.text.removeprefix("\ufeff")):
        try:
            if isinstance(record, Rejected):
                raise record
            entries.append(Entry(str(record["ID"]), place, to_paper(record)))
        except Rejected as reason:
            rejects.append(f"{place}: {reason}")
    return Bibliography(source, tuple(entries), tuple(rejects))


def keys_for(
    papers: Iterable[Paper], libraries: Sequence[Bibliography], style: KeyStyle = "scholar"
) -> dict[str, str]:
    """The key of each paper, by paper_id: the one that a library has it under, else one that none has."""
    taken = {key.lower() for library in libraries for key in library.keys}
    keys: dict[str, str] = {}
    for paper in papers:
        if paper.paper_id not in keys:
            known = next(filter(None, (library.key_of(paper) for library in libraries)), None)
            keys[paper.paper_id] = known or unique_key(paper, taken, style)
            taken.add(keys[paper.paper_id].lower())
    return keys


def with_entries(library: Bibliography, papers: Sequence[tuple[Paper, str]]) -> Source:
    """The file with these papers and their keys at its end; what it held stays as it is.

    Raises UserError where the file's encoding cannot hold an entry, and where an entry before it was
    never closed, so that BibTeX would not read what follows.
    """
    old = library.source
    newline = "\r\n" if "\r\n" in old.text else "\n"
    gap = "" if not old.text.strip() else newline if old.text.endswith("\n") else 2 * newline
    entries = newline.join(bibtex(paper, key).replace("\n", newline) for paper, key in papers)
    new = Source(old.path, old.text + gap + entries, old.encoding)
    try:
        _ = new.content
    except UnicodeEncodeError as error:
        raise UserError(
            f"{old.path} is in {old.encoding}, which has no {error.object[error.start]!r}; save it as UTF-8"
        ) from None
    after = parse_bibliography(new)
    if after.rejects != library.rejects or any(after.entry(key) is None for _, key in papers):
        broken = library.rejects[-1] if library.rejects else "an entry is not closed"
        raise UserError(f"{old.path}: {broken}; mend that entry, or what is added after it is not read")
    return new
