"""Input cleaned where it enters: text, names, years and identifiers of one foreign record.

Corpora spell their fields in many ways. `to_paper` takes a record of any of them (arXiv's metadata
snapshot, BEIR's corpus, Semantic Scholar's and plain tables) to a Paper, or says why it cannot.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from data.paper import ARXIV_ID, Paper

MAX_FIELD = 100_000  # characters: no abstract is longer, so what is must be a broken line
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_YEAR = re.compile(r"(?<!\d)(1[6-9]\d\d|20\d\d)(?!\d)")
_ID_NAMES = ("paper_id", "id", "_id", "arxiv_id", "corpusid", "ID")
_ABSTRACT_NAMES = ("abstract", "text", "summary", "description")
_YEAR_NAMES = ("year", "published", "date", "publication_date", "created", "update_date")


class Rejected(ValueError):
    """The record is no paper; the message says why."""


def text(value: Any) -> str:
    """One line of clean text: no control characters or lone surrogates, single spaces, NFC."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        value = str(value)
    if len(value) > MAX_FIELD:
        raise Rejected(f"a field of {len(value):,} characters (limit {MAX_FIELD:,})")
    if value.isascii() and value.isprintable() and "  " not in value:
        return str(value.strip())
    line = " ".join(_NOT_TEXT.sub(" ", value).split())
    return line if line.isascii() else unicodedata.normalize("NFC", line)


def to_paper(record: Any) -> Paper:
    """A foreign record, a mapping of field names to values, as a Paper.

    Raises Rejected for a record without a title, or with a field of the wrong kind.
    """
    if not isinstance(record, dict):
        raise Rejected(f"not a record but {type(record).__name__}")
    title = text(_first(record, ("title",)))
    if not title:
        raise Rejected("no title")
    year = _year(record)
    raw_id = text(_first(record, _ID_NAMES))
    paper_id, version = _identifier(raw_id, title, year, arxiv=_is_arxiv(record))
    versions = record.get("versions")
    if not version and isinstance(versions, list):
        version = len(versions)
    return Paper(
        paper_id=paper_id,
        title=title,
        abstract=text(_first(record, _ABSTRACT_NAMES)),
        authors=_authors(record),
        year=year,
        categories=_categories(record),
        venue=text(_first(record, ("venue", "journal-ref", "journal_ref", "journal", "booktitle"))),
        doi=text(record.get("doi")).removeprefix("https://doi.org/"),
        version=version,
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = record.get(name)
        if value is not None and value != "":
            return value
    return None


def _is_arxiv(record: Mapping[str, Any]) -> bool:
    return "versions" in record or "authors_parsed" in record or "arxiv_id" in record


def _identifier(raw: str, title: str, year: int | None, *, arxiv: bool) -> tuple[str, int]:
    if not raw:
        return "h:" + hashlib.sha256(f"{title.lower()}|{year}".encode()).hexdigest()[:16], 0
    if len(raw) > 256 or " " in raw:
        raise Rejected(f"not an id: {raw[:40]!r}")
    match = ARXIV_ID.fullmatch(raw.removeprefix("arxiv:").removeprefix("arXiv:"))
    if match and (arxiv or raw.lower().startswith("arxiv:")):
        return f"arxiv:{match['id']}", int(match["version"] or 0)
    if arxiv and not match:
        raise Rejected(f"not an arXiv id: {raw[:40]!r}")
    return raw, 0


def _authors(record: Mapping[str, Any]) -> tuple[str, ...]:
    parsed = record.get("authors_parsed")
    if isinstance(parsed, list) and parsed:
        # arXiv: [family, given, suffix, affiliation…]
        names = [
            " ".join(text(part) for part in (p[1:2] + p[:1] + p[2:3]) if part)
            for p in parsed
            if isinstance(p, list)
        ]
    else:
        names = _names(_first(record, ("authors", "author")))
    return tuple(name for name in names if name)


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        separator = ";" if ";" in value else r"\s+and\s+" if " and " in value else ","
        if " and " in value and "," in value and ";" not in value and not _family_first(value):
            separator = r",\s*(?:and\s+)?|\s+and\s+"
        return [_given_first(text(name)) for name in re.split(separator, value)]
    if isinstance(value, list | tuple):
        return [text(v.get("name") if isinstance(v, Mapping) else v) for v in value]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    raise Rejected(f"authors are {type(value).__name__}, not text or a list")


def _family_first(value: str) -> bool:
    """Whether names are written `Family, Given and Family, Given`, as BibTeX has them."""
    return all(part.count(",") == 1 for part in re.split(r"\s+and\s+", value))


def _given_first(name: str) -> str:
    family, comma, given = name.partition(",")
    return f"{given.strip()} {family.strip()}" if comma and given.strip() else name.strip(" ,")


def _categories(record: Mapping[str, Any]) -> tuple[str, ...]:
    value = _first(record, ("categories", "category", "fieldsofstudy", "keywords"))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, str):
        value = re.split(r"[;,]\s*|\s+", value)
    if not isinstance(value, list | tuple):
        raise Rejected(f"categories are {type(value).__name__}, not text or a list")
    return tuple(c for c in (text(v) for v in value) if c)


def _year(record: Mapping[str, Any]) -> int | None:
    versions = record.get("versions")
    if isinstance(versions, list) and versions and isinstance(versions[0], Mapping):
        match = _YEAR.search(text(versions[0].get("created")))
        if match:
            return int(match[1])
    for name in _YEAR_NAMES:
        value = record.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        match = _YEAR.search(text(value))
        if match:
            return int(match[1])
    return None
