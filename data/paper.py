"""The paper: one record of a corpus, and the Arrow schema that every reader and writer shares."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from urllib.parse import quote

import pyarrow as pa

ARXIV_ID = re.compile(
    r"(?P<id>[0-9]{4}\.[0-9]{4,5}|[a-z][a-z-]*(?:\.[A-Z]{2})?/[0-9]{7})(?:v(?P<version>[0-9]{1,4}))?"
)
"""An arXiv identifier of either era, with or without its version."""

_ACL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{3,60}")
# Old identifiers hold (, ), [, ], < and >, which are quoted in an address.
_DOI = re.compile(r"10\.[0-9]{4,9}/[A-Za-z0-9._;()/:<>\[\]+#~*&=@,!$%?-]{1,200}")


@dataclass(frozen=True, slots=True)
class Paper:
    """A record of the corpus.

    Every text is clean when it gets here (see data.clean): no control characters, no lone
    surrogates, single spaces. `paper_id` is unique in a corpus; `arxiv:`, `acl:` and `doi:` ids
    link to their paper, others do not. Of two records with one id the higher `version` wins.
    """

    paper_id: str
    title: str
    abstract: str = ""
    authors: tuple[str, ...] = ()
    year: int | None = None
    categories: tuple[str, ...] = ()
    venue: str = ""
    doi: str = ""
    version: int = 0

    @property
    def url(self) -> str | None:
        """The address of the paper, built from a validated identifier, or None."""
        scheme, _, name = self.paper_id.partition(":")
        if scheme == "arxiv" and ARXIV_ID.fullmatch(name):
            return f"https://arxiv.org/abs/{name}"
        if scheme == "acl" and _ACL_ID.fullmatch(name):
            return f"https://aclanthology.org/{name}/"
        return f"https://doi.org/{quote(self.valid_doi, safe='/:;')}" if self.valid_doi else None

    @property
    def valid_doi(self) -> str:
        """The DOI, of the id or of the field, if it is shaped like one, else empty."""
        scheme, _, name = self.paper_id.partition(":")
        doi = name if scheme == "doi" else self.doi
        return doi if _DOI.fullmatch(doi) else ""

    def content_hash(self) -> str:
        """A digest (hex, 64 bits) of what the index knows of the paper, its version aside."""
        lists = ("\x1e".join(self.authors), "\x1e".join(self.categories))
        fields = (self.paper_id, self.title, self.abstract, *lists, str(self.year), self.venue, self.doi)
        return hashlib.sha256("\x1f".join(fields).encode()).hexdigest()[:16]


SCHEMA = pa.schema(
    [
        pa.field("paper_id", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("abstract", pa.string(), nullable=False),
        pa.field("authors", pa.list_(pa.string()), nullable=False),
        pa.field("year", pa.int32()),
        pa.field("categories", pa.list_(pa.string()), nullable=False),
        pa.field("venue", pa.string(), nullable=False),
        pa.field("doi", pa.string(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
    ]
)

_VALUES = attrgetter(*SCHEMA.names)


def to_batch(papers: Iterable[Paper]) -> pa.RecordBatch:
    """Papers as one Arrow batch of SCHEMA."""
    rows = [_VALUES(paper) for paper in papers]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def from_rows(rows: pa.Table | pa.RecordBatch) -> list[Paper]:
    """The inverse of to_batch."""
    return [from_row(row) for row in rows.to_pylist()]


def from_row(row: Mapping[str, Any]) -> Paper:
    """One row of SCHEMA, as a mapping, back as a Paper."""
    return Paper(
        paper_id=row["paper_id"],
        title=row["title"],
        abstract=row["abstract"],
        authors=tuple(row["authors"]),
        year=row["year"],
        categories=tuple(row["categories"]),
        venue=row["venue"],
        doi=row["doi"],
        version=row["version"],
    )
