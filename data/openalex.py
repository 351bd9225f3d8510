"""Works of OpenAlex, as its snapshot and its API have them, as records for data.clean.to_paper."""

import re
from collections.abc import Mapping
from typing import Any

from data.identifiers import arxiv_id, doi_in, paper_id

FIELDS = (
    *("display_name", "abstract_inverted_index", "authorships", "publication_year", "ids"),
    *("primary_location", "locations", "best_oa_location", "topics", "concepts"),
)
_TAG = re.compile(
    r"</?(?:i|b|u|em|strong|sub|sup|sc|scp|tt|p|span|br|(?:jats|mml):[\w-]+)(?:\s[^<>]*)?/?>", re.IGNORECASE
)


def work_record(work: Mapping[str, Any]) -> dict[str, Any]:
    """A work with its abstract put together again; its id is the arXiv number or DOI where it has one."""
    source = _mapping(_mapping(work.get("primary_location")).get("source"))
    doi = doi_in(work.get("doi")) or doi_in(_mapping(work.get("ids")).get("doi"))
    name = str(work.get("id") or "").rstrip("/").rpartition("/")[2]
    return {
        "paper_id": paper_id(arxiv=_arxiv(work), doi=doi, other=f"openalex:{name}" if name else ""),
        "title": _untagged(work.get("title") or work.get("display_name")),
        "abstract": _untagged(abstract(work.get("abstract_inverted_index"))),
        "authors": [_author(_mapping(entry)) for entry in _list(work.get("authorships"))],
        "year": work.get("publication_year"),
        "categories": _fields(work),
        "venue": source.get("display_name"),
        "doi": doi,
    }


def abstract(index: Any) -> Any:
    """The text of which `index` ({word: its positions}) is the inverted index.

    What is no such index comes back as it is, for to_paper to refuse.
    """
    if not isinstance(index, Mapping):
        return index
    try:
        # Sorted, not laid out in a list: a position may be any number.
        words = sorted((int(place), word) for word, places in index.items() for place in places or ())
    except (TypeError, ValueError):
        return index
    return " ".join(word for _, word in words)


def _untagged(value: Any) -> Any:
    return _TAG.sub("", value) if isinstance(value, str) and "<" in value else value


def _arxiv(work: Mapping[str, Any]) -> str:
    """The arXiv number in the address of a location at arXiv."""
    places = [work.get("primary_location"), work.get("best_oa_location"), *_list(work.get("locations"))]
    addresses = [_mapping(place).get(name) for place in places for name in ("landing_page_url", "pdf_url")]
    return next(
        (found for a in addresses if isinstance(a, str) and "arxiv" in a.lower() and (found := arxiv_id(a))),
        "",
    )


def _author(entry: Mapping[str, Any]) -> Any:
    return _mapping(entry.get("author")).get("display_name") or entry.get("raw_author_name")


def _fields(work: Mapping[str, Any]) -> list[str]:
    """The fields and subfields of the topics; of older dumps the concepts of the highest level."""
    topics = [_mapping(topic) for topic in _list(work.get("topics"))]
    names = [
        _mapping(topic.get(level)).get("display_name") for topic in topics for level in ("field", "subfield")
    ]
    if not names:
        concepts = [_mapping(concept) for concept in _list(work.get("concepts"))]
        names = [concept.get("display_name") for concept in concepts if concept.get("level") == 0]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
