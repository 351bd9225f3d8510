"""Papers as reference managers read them: BibTeX, RIS and CSL-JSON, from their records alone."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import rispy

from data.bibliography import at_meeting, bibtex
from data.keys import KeyStyle, unique_key
from data.names import NAME_SUFFIX
from data.paper import ARXIV_ID, Paper

Format = Literal["bibtex", "ris", "csl-json"]
FORMATS: tuple[Format, ...] = get_args(Format)

_PARTICLE = re.compile(r"(?:[a-zà-ÿ'’]+ )+")
_ORGANISATION = re.compile(r"\b(?:team|group|collaboration|consortium|and|project)\b|,", re.IGNORECASE)


def export(papers: Iterable[Paper], form: Format, style: KeyStyle = "scholar") -> str:
    """The papers as one file of a format, their keys unique in it."""
    taken: set[str] = set()
    keyed = []
    for paper in papers:
        key = unique_key(paper, taken, style)
        taken.add(key.lower())
        keyed.append((paper, key))
    return export_keyed(keyed, form)


def export_keyed(keyed: Sequence[tuple[Paper, str]], form: Format) -> str:
    """The papers as one file of a format, under keys that were chosen before."""
    if form == "bibtex":
        return "\n".join(bibtex(paper, key) for paper, key in keyed)
    if form == "ris":
        references = [_ris(paper, key) for paper, key in keyed]
        return str(rispy.dumps(references, implementation=_Unnumbered)).lstrip() if keyed else ""
    return json.dumps([_csl(paper, key) for paper, key in keyed], ensure_ascii=False, indent=1) + "\n"


def name_parts(name: str) -> dict[str, str]:
    """A name as CSL has it: given, non-dropping-particle, family and suffix, or literal.

    The particle is what is in small letters before the last word: `Ludwig van Beethoven`.
    """
    words = name.split()
    if len(words) < 2 or _ORGANISATION.search(name):
        return {"literal": name}
    suffix = words.pop() if len(words) > 2 and NAME_SUFFIX.fullmatch(words[-1]) else ""
    start = len(words) - 1
    while start > 1 and _PARTICLE.fullmatch(words[start - 1] + " "):
        start -= 1
    parts = {
        "family": words[-1],
        "given": " ".join(words[:start]),
        "non-dropping-particle": " ".join(words[start:-1]),
        "suffix": suffix,
    }
    return {name: part for name, part in parts.items() if part}


class _Unnumbered(rispy.RisWriter):  # type: ignore[misc]
    """RIS as its grammar has it: rispy puts a number before each entry."""

    def set_header(self, count: int) -> str:
        return ""


def _arxiv(paper: Paper) -> str:
    scheme, _, name = paper.paper_id.partition(":")
    return name if scheme == "arxiv" and ARXIV_ID.fullmatch(name) else ""


def _ris(paper: Paper, key: str) -> dict[str, Any]:
    """The fields of rispy. An arXiv number goes where RIS has accession numbers."""
    kind = "CPAPER" if at_meeting(paper) else "JOUR" if paper.venue else "UNPB" if _arxiv(paper) else "GEN"
    fields = {
        "type_of_reference": kind,
        "id": key,
        "title": paper.title,
        "authors": [_family_first(author) for author in paper.authors],
        "year": str(paper.year or ""),
        "secondary_title": paper.venue,
        "abstract": paper.abstract,
        "keywords": list(paper.categories),
        "doi": paper.valid_doi,
        "accession_number": f"arXiv:{_arxiv(paper)}" if _arxiv(paper) else "",
        "urls": [paper.url] if paper.url else [],
    }
    return {name: value for name, value in fields.items() if value}


def _family_first(author: str) -> str:
    parts = name_parts(author)
    if "literal" in parts:
        return author
    family = " ".join(filter(None, [parts.get("non-dropping-particle"), parts["family"]]))
    return ", ".join(filter(None, [family, parts.get("given"), parts.get("suffix")]))


def _csl(paper: Paper, key: str) -> dict[str, Any]:
    """An item of CSL-JSON 1.0.2, in which a preprint is an `article` with its archive and number."""
    kind = "paper-conference" if at_meeting(paper) else "article-journal" if paper.venue else "article"
    arxiv = _arxiv(paper)
    preprint = {"archive": "arXiv", "archive_location": arxiv, "number": f"arXiv:{arxiv}"} if arxiv else {}
    fields = {
        "id": key,
        "type": kind,
        "title": paper.title,
        "author": [name_parts(author) for author in paper.authors],
        "issued": {"date-parts": [[paper.year]]} if paper.year else None,
        "container-title": paper.venue,
        "DOI": paper.valid_doi,
        "URL": paper.url,
        "abstract": paper.abstract,
        "keyword": ", ".join(paper.categories),
        **preprint,
    }
    return {name: value for name, value in fields.items() if value}
