"""BibTeX in and out, by bibtexparser."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import bibtexparser
from bibtexparser import middlewares as m
from bibtexparser.library import Library
from bibtexparser.model import Entry, Field

from data.clean import Rejected
from data.paper import ARXIV_ID, Paper

_SMALL_WORDS = {
    *("a", "an", "the", "on", "of", "for", "in", "to", "and", "with", "from", "by", "at"),
    *("is", "are", "be", "do", "does", "how"),
}


def bibtex_records(source: str) -> Iterator[tuple[str, Any]]:
    """The entries of a BibTeX file as (place, record) pairs, for data.clean.to_paper.

    An entry is known by its arXiv id, else its DOI, else `bib:` and its key.
    """
    library = bibtexparser.parse_string(
        source,
        append_middleware=[
            m.LatexDecodingMiddleware(),
            m.SeparateCoAuthors(),
            m.SplitNameParts(),
            m.MergeNameParts(style="first"),
        ],
    )
    for block in library.failed_blocks:
        reason = str(block.error).splitlines()[0] if str(block.error) else "not BibTeX"
        yield f"line {(block.start_line or 0) + 1}", Rejected(reason)
    for entry in library.entries:
        fields = {f.key.lower(): _braceless(f.value) for f in entry.fields}
        yield (
            f"line {(entry.start_line or 0) + 1}",
            fields | {"paper_id": _bib_id(entry.key, fields)},
        )


def _braceless(value: Any) -> Any:
    return re.sub(r"[{}]", "", value) if isinstance(value, str) else value


def _bib_id(key: str, fields: dict[str, Any]) -> str:
    eprint = ARXIV_ID.fullmatch(str(fields.get("eprint", "")))
    if eprint and str(fields.get("archiveprefix", fields.get("eprinttype", "arxiv"))).lower() == "arxiv":
        return f"arxiv:{eprint['id']}"
    doi = str(fields.get("doi", "")).removeprefix("https://doi.org/")
    return f"doi:{doi}" if doi else f"bib:{key}"


def citation_key(paper: Paper) -> str:
    """A stable key from the first author's family name, the year and the title's first word."""
    family = paper.authors[0].split()[-1] if paper.authors else "anonymous"
    words = re.findall(r"\w+", _ascii(paper.title).lower())
    word = next((w for w in words if w not in _SMALL_WORDS), "")
    return re.sub(r"[^a-z0-9]", "", f"{_ascii(family).lower()}{paper.year or ''}{word}") or "paper"


def bibtex(paper: Paper) -> str:
    """The paper as one BibTeX entry, from the fields of its record alone."""
    scheme, _, name = paper.paper_id.partition(":")
    kind = "inproceedings" if scheme == "acl" else "article" if paper.venue else "misc"
    fields = {"title": paper.title, "author": " and ".join(paper.authors)}
    fields["year"] = str(paper.year or "")
    if paper.venue:
        fields["booktitle" if kind == "inproceedings" else "journal"] = paper.venue
    fields["doi"] = name if scheme == "doi" else paper.doi
    if scheme == "arxiv":
        fields |= {"eprint": name, "archiveprefix": "arXiv"}
        fields["primaryclass"] = paper.categories[0] if paper.categories else ""
    fields["url"] = paper.url or ""
    entry = Entry(kind, citation_key(paper), [Field(k, v) for k, v in fields.items() if v])
    writing = [m.LatexEncodingMiddleware(), m.AddEnclosingMiddleware(False, True, "{")]
    return str(bibtexparser.write_string(Library([entry]), append_middleware=writing)).strip() + "\n"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
