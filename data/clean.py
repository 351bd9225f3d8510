"""Input cleaned where it enters: text, names, years and identifiers of one foreign record.

Corpora spell their fields in many ways. `to_paper` takes a record of any of them (arXiv's metadata
snapshot, BEIR's corpus, plain tables, the catalogues of data.sources) to a Paper, or says why it cannot.
"""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from data.latex import decode_accents
from data.names import given_first, split_names
from data.paper import ARXIV_ID, Paper
from data.sources import FIELDS as SOURCE_FIELDS
from data.sources import plain

MAX_FIELD = 100_000  # characters: no abstract is longer, so what is must be a broken line
NO_TITLE = "no title"  # why a record is rejected
_MAX_ID = 256
# Controls, marks that turn the direction of the text around them, lone surrogates, non-characters.
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_YEAR = re.compile(r"(?<![0-9])(1[6-9][0-9]{2}|20[0-9]{2})(?![0-9])")
_ARXIV_PREFIX = re.compile(r"(?:arxiv:|https?://(?:www\.)?arxiv\.org/(?:abs|pdf)/)", re.IGNORECASE)
_DOI_PREFIX = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)", re.IGNORECASE)

_IDS = ("paper_id", "id", "_id", "arxiv_id", "corpusid", "paperId", "ID")
_ABSTRACTS = ("abstract", "text", "summary", "description")
_VENUES = ("venue", "journal-ref", "journal_ref", "journal", "booktitle")
_CATEGORIES = ("categories", "category", "fieldsofstudy", "keywords")
_YEARS = ("year", "published", "date", "publication_date", "created", "update_date")
_OTHERS = ("authors", "author", "authors_parsed", "versions", "version", "doi")
FIELDS = ("title", *_IDS, *_ABSTRACTS, *_VENUES, *_CATEGORIES, *_YEARS, *_OTHERS, *SOURCE_FIELDS)
"""The names of all fields that to_paper looks at."""


class Rejected(ValueError):
    """The record is no paper; the message says why."""


def text(value: Any) -> str:
    """One line of clean text: no control characters or lone surrogates, single spaces, NFC.

    Numbers and dates are written out; None and NaN are empty. Raises Rejected for a value of another
    kind, and for one over MAX_FIELD characters.
    """
    if not isinstance(value, str):
        value = _written(value)
    if len(value) > MAX_FIELD:
        raise Rejected(f"a field of {len(value):,} characters (limit {MAX_FIELD:,})")
    # Whole abstracts come through here: line by line is four times as fast as word by word.
    line: str = " ".join(map(str.strip, value.split("\n"))).strip() if "\n" in value else value.strip()
    return printable(" ".join(line.split()) if "  " in line else line)


def printable(line: str) -> str:
    """What `text` makes of a line without two blanks side by side, or at its ends."""
    if not line.isprintable():  # which tabs, no-break spaces and surrogates are not
        line = " ".join(_NOT_TEXT.sub(" ", line).split())
    return line if line.isascii() else unicodedata.normalize("NFC", line)


def _written(value: Any) -> str:
    if value is None or value != value:  # NaN is unlike itself
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, int | float | Decimal | date) and not isinstance(value, bool):
        return str(value)
    raise Rejected(f"{type(value).__name__}, not text")


def to_paper(record: Any) -> Paper:
    """A foreign record, a mapping of field names to values, as a Paper.

    Raises Rejected for a record without a title, or with a field of the wrong kind; a record that is a
    Rejected itself, since none could be read, is raised.
    """
    if isinstance(record, Rejected):
        raise record
    if not isinstance(record, dict):
        raise Rejected(f"not a record but {type(record).__name__}")
    record = plain(record)
    title = _prose(record, ("title",))
    if not title:
        raise Rejected(NO_TITLE)
    year = _year(record)
    paper_id, version = _identifier(_text(record, _IDS), title, year, arxiv=_is_arxiv(record))
    return Paper(
        paper_id,
        title,
        _prose(record, _ABSTRACTS),
        _authors(record),
        year,
        _categories(record),
        _text(record, _VENUES),
        plain_doi(_text(record, ("doi",))),
        version or _version(record),
    )


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of the fields that has a value, and its name."""
    for name in names:
        value = record.get(name)
        if value is not None and value != "" and value == value:  # not NaN
            return name, value
    return "", None


def _text(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    name, value = _first(record, names)
    if value is None:
        return ""
    try:
        return text(value)
    except Rejected as error:
        raise Rejected(f"{name}: {error}") from None


def _prose(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return decode_accents(_text(record, names))


def _is_arxiv(record: Mapping[str, Any]) -> bool:
    return "authors_parsed" in record or "arxiv_id" in record or "versions" in record


def _identifier(raw: str, title: str, year: int | None, *, arxiv: bool) -> tuple[str, int]:
    if not raw:
        return "h:" + hashlib.sha256(f"{title.lower()}|{year}".encode()).hexdigest()[:16], 0
    if len(raw) > _MAX_ID or " " in raw:
        raise Rejected(f"not an id: {raw[:40]!r}")
    prefix = _ARXIV_PREFIX.match(raw)
    if not prefix and not arxiv:
        return raw, 0
    match = ARXIV_ID.fullmatch(raw, prefix.end() if prefix else 0)
    if match:
        return f"arxiv:{match['id']}", int(match["version"] or 0)
    if arxiv:
        raise Rejected(f"not an arXiv id: {raw[:40]!r}")
    return raw, 0


def _version(record: Mapping[str, Any]) -> int:
    """How many versions arXiv lists, or the version that a table of ours has."""
    versions, version = record.get("versions"), record.get("version")
    if isinstance(versions, list | tuple):
        return len(versions)
    return version if isinstance(version, int) and 0 <= version < 1 << 31 else 0


def plain_doi(doi: str) -> str:
    """A DOI without the address or the label that it may be written with."""
    prefix = None if doi.startswith("10.") else _DOI_PREFIX.match(doi)
    return doi[prefix.end() :] if prefix else doi


def _authors(record: Mapping[str, Any]) -> tuple[str, ...]:
    parsed = record.get("authors_parsed")
    if isinstance(parsed, list) and parsed:
        names = [_parsed_name(parts) for parts in parsed]
    else:
        names = _author_names(record)
    return tuple([decode_accents(name) for name in names if name])


def _parsed_name(parts: Any) -> str:
    """arXiv has [family, given, suffix, affiliation…]."""
    try:
        return text(" ".join(filter(None, parts[1:2] + parts[:1] + parts[2:3])))
    except TypeError:
        raise Rejected(f"authors_parsed: {type(parts).__name__}, not a list of text") from None


def _author_names(record: Mapping[str, Any]) -> list[str]:
    field, value = _first(record, ("authors", "author"))
    if isinstance(value, str):
        return split_names(text(value))
    if isinstance(value, Mapping):
        value = [value]
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise Rejected(f"{field}: {type(value).__name__}, not text or a list")
    return [given_first(_person(person)) for person in value]


def _person(person: Any) -> str:
    if not isinstance(person, Mapping):
        return text(person)
    name = _text(person, ("name", "display_name", "literal"))
    given, family = _text(person, ("given", "first")), _text(person, ("family", "last"))
    return name or f"{given} {family}".strip()


def _categories(record: Mapping[str, Any]) -> tuple[str, ...]:
    field, value = _first(record, _CATEGORIES)
    if value is None:
        return ()
    if isinstance(value, str):
        return categories_in(value)
    if not isinstance(value, list | tuple):
        raise Rejected(f"{field}: {type(value).__name__}, not text or a list")
    return _words_of([text(line) for line in value])


def categories_in(value: str) -> tuple[str, ...]:
    """The categories of a list in one text: with blanks as arXiv has them, with `,` or `;`, or Python's."""
    lines = text(value).strip("[]").replace(";", ",").split(",")
    return _words_of([line.strip(" '\"") for line in lines])


def _words_of(parts: list[str]) -> tuple[str, ...]:
    return tuple([word for part in parts for word in _category_words(part)])


def _category_words(part: str) -> list[str]:
    """`cs.CL hep-th`, as arXiv lists its categories, is two, `Computer Science` is one."""
    words = part.split()
    return words if all("." in word or "-" in word for word in words) else [part]


def _year(record: Mapping[str, Any]) -> int | None:
    """The year of the first version, else of the first field that holds a year."""
    versions = record.get("versions")
    if isinstance(versions, list | tuple) and versions and isinstance(versions[0], Mapping):
        year = year_in(versions[0].get("created"))
        if year:
            return year
    return next((year for name in _YEARS if (year := year_in(record.get(name)))), None)


def year_in(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | date | Decimal):
        return None
    match = _YEAR.search(value[:100] if isinstance(value, str) else str(value))
    return int(match[1]) if match else None
