"""The ACL Anthology's XML (its repository's data/xml/*.xml) as records for data.clean.to_paper."""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from data.safe_xml import name, text

_SCHEME = re.compile(r"[A-Z][0-9]{2}")  # collections until 2019: a letter and the year


def anthology_records(collection: Element) -> Iterator[tuple[str, Any]]:
    """The papers of a collection as (place, record) pairs; title pages are passed over."""
    for volume in collection.iter("volume"):
        meta = volume.find("meta")
        for paper in volume.iter("paper"):
            place = f"paper {collection.get('id')} {volume.get('id')} {paper.get('id')}"
            yield place, _record(_number(collection, volume, paper), paper, meta)


def _record(number: str, paper: Element, meta: Element | None) -> dict[str, Any]:
    return {
        "paper_id": f"acl:{number}",
        "title": _prose(paper.find("title")),
        "abstract": _prose(paper.find("abstract")),
        "authors": [f"{text(a, 'first')} {text(a, 'last')}".strip() for a in paper if name(a) == "author"],
        "year": text(paper, "year") or text(meta, "year"),
        "venue": _prose(paper.find("booktitle")) or _prose(None if meta is None else meta.find("booktitle")),
        "doi": text(paper, "doi"),
        "categories": ["cs.CL"],
    }


def _number(collection: Element, volume: Element, paper: Element) -> str:
    """P17-1001 of the years until 2019, 2020.acl-main.1 since; the address of the paper tells both."""
    url = text(paper, "url")
    if url and "/" not in url:
        return url.removesuffix(".pdf")
    group, book, page = (str(element.get("id")) for element in (collection, volume, paper))
    if not (_SCHEME.fullmatch(group) and book.isdecimal() and page.isdecimal()):
        return f"{group}-{book}.{page}"
    wide = group[0] == "W" or group == "C69" or (group == "D19" and int(book) >= 5)
    return f"{group}-{int(book):02}{int(page):02}" if wide else f"{group}-{int(book)}{int(page):03}"


def _prose(element: Element | None) -> str:
    """The text of an element without its markup; formulas stand between dollars."""
    if element is None:
        return ""
    parts = [element.text or ""]
    for child in element:
        inner = _prose(child)
        parts += [f"${inner.strip()}$" if name(child) == "tex-math" else inner, child.tail or ""]
    return "".join(parts)
