"""A Zotero library as it is exported, as records for data.clean.to_paper.

Known are CSL-JSON, Zotero's own JSON (its API's, and Better BibTeX's) and Zotero RDF; BibTeX is read
by data.bibliography. Notes, attachments and annotations are no papers and are passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from data.identifiers import arxiv_id, doi_in, paper_id
from data.safe_xml import name, text, texts

CSL_FIELDS = ("container-title", "issued", "DOI", "URL", "note", "archive", "number", "type")
_NO_PAPERS = ("attachment", "note", "annotation")
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC_TERMS = "{http://purl.org/dc/terms/}"


def is_paper(item: Any) -> bool:
    """Whether an item of a library is more than a note or an attachment."""
    data = item.get("data", item) if isinstance(item, Mapping) else {}
    return not isinstance(data, Mapping) or data.get("itemType") not in _NO_PAPERS


def csl_record(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of CSL-JSON, as Zotero, Mendeley and Crossref write it."""
    doi = doi_in(item.get("DOI"))
    number = _arxiv(item, ("URL", "note", "number", "archive_location", "archive", "container-title"))
    return {
        "paper_id": paper_id(arxiv=number, acl=item.get("URL"), doi=doi, other=_key(item.get("id"))),
        "title": _one(item.get("title")),
        "abstract": item.get("abstract"),
        "authors": item.get("author"),
        "year": _issued(item.get("issued")),
        "venue": _one(item.get("container-title")),
        "doi": doi,
    }


def zotero_record(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of Zotero's own JSON, either as it is or under `data`, where its API has it."""
    inner = item.get("data")
    data: Mapping[str, Any] = inner if isinstance(inner, Mapping) else item
    doi = doi_in(data.get("DOI")) or doi_in(data.get("extra"))
    number = _arxiv(data, ("archiveID", "url", "extra", "reportNumber", "publicationTitle"))
    venue = ("publicationTitle", "proceedingsTitle", "bookTitle", "conferenceName", "repository", "publisher")
    return {
        "paper_id": paper_id(
            arxiv=number, acl=data.get("url"), doi=doi, other=_key(data.get("citationKey") or data.get("key"))
        ),
        "title": data.get("title"),
        "abstract": data.get("abstractNote"),
        "authors": _creators(data.get("creators")),
        "year": data.get("date"),
        "venue": next((data[n] for n in venue if data.get(n)), ""),
        "doi": doi,
        "categories": [],
    }


def rdf_records(root: Element) -> Iterator[tuple[str, Any]]:
    """The items of a Zotero RDF file as (place, record) pairs."""
    containers = {str(node.get(f"{_RDF}about")): node for node in root}
    number = 0
    for node in root:
        kind = text(node, "itemType")
        if kind and kind not in _NO_PAPERS:
            number += 1
            yield f"item {number}", _rdf_record(node, containers)


def _rdf_record(node: Element, containers: Mapping[str, Element]) -> dict[str, Any]:
    part_of = [_target(part, containers) for part in node if part.tag == f"{_DC_TERMS}isPartOf"]
    books = [part for part in part_of if part is not None and text(part, "title")]
    known = [*texts(node, "identifier"), *(i for book in books for i in texts(book, "identifier"))]
    about = str(node.get(f"{_RDF}about"))
    doi = next((found for value in known if (found := doi_in(value))), "")
    number = next((n for v in [*known, about] if "arxiv" in v.lower() and (n := arxiv_id(v))), "")
    people = next((part for part in node if name(part) == "authors"), None)
    return {
        "paper_id": paper_id(arxiv=number, acl=about, doi=doi, other=_key(about)),
        "title": text(node, "title"),
        "abstract": text(node, "abstract"),
        "authors": [] if people is None else [_person(p) for p in people.iter() if name(p) == "Person"],
        "year": text(node, "date"),
        "venue": text(books[0], "title") if books else "",
        "doi": doi,
    }


def _target(part: Element, containers: Mapping[str, Element]) -> Element | None:
    """What an element holds, or the node that it points to."""
    return part[0] if len(part) else containers.get(str(part.get(f"{_RDF}resource")))


def _person(person: Element) -> str:
    given = text(person, "givenName") or text(person, "givenname")
    return f"{given} {text(person, 'surname')}".strip()


def _creators(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    people = [c for c in value if isinstance(c, Mapping)]
    authors = [c for c in people if c.get("creatorType") == "author"] or people
    names = [
        c.get("name") or f"{c.get('firstName') or ''} {c.get('lastName') or ''}".strip() for c in authors
    ]
    return [person for person in names if person]


def _arxiv(item: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    values = (item.get(field) for field in fields)
    return next((n for v in values if isinstance(v, str) and "arxiv" in v.lower() and (n := arxiv_id(v))), "")


def _issued(value: Any) -> Any:
    """The year of a CSL date: {"date-parts": [[2017, 6]]}, or a text under raw or literal."""
    if not isinstance(value, Mapping):
        return value
    try:
        return int(value["date-parts"][0][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return value.get("raw") or value.get("literal")


def _one(value: Any) -> Any:
    """Crossref has lists of titles."""
    return value[0] if isinstance(value, list) and value else value


def _key(value: Any) -> str:
    key = str(value or "").rstrip("/").rpartition("/")[2].replace(" ", "_")
    return f"zotero:{key}" if key else ""
