"""Identifiers as other catalogues spell them, as the one id that a paper has in every corpus here."""

import re
from typing import Any

from data.paper import ARXIV_ID

_ARXIV = re.compile(
    rf"(?:arxiv[.:/]\s*|arxiv\.org/(?:abs|pdf|html)/|^)(?P<whole>{ARXIV_ID.pattern})(?![0-9])", re.IGNORECASE
)
_DOI = re.compile(r"10\.[0-9]{4,9}/\S+")
_ACL = re.compile(
    r"(?:aclanthology\.org/|aclweb\.org/anthology/(?:papers/)?|10\.18653/v1/|10\.3115/v1/)?"
    r"(?P<id>[A-Z][0-9]{2}-[0-9]{4}|[0-9]{4}\.[a-z][a-z0-9_]*-[a-z0-9]+\.[0-9]+)(?:\.pdf)?/?",
    re.IGNORECASE,
)


def paper_id(*, arxiv: Any = "", acl: Any = "", doi: Any = "", other: str = "") -> str:
    """`arxiv:…`, else `acl:…`, else `doi:…`, else `other`: the same paper has one id from all sources.

    A DOI of arXiv (10.48550/arXiv.…) or of the ACL (10.18653/v1/…) counts as what it stands for.
    """
    plain = doi_in(doi)
    number = arxiv_id(arxiv) or arxiv_id(_of_arxiv(plain))
    anthology = acl_id(acl) or acl_id(plain)
    if number:
        return f"arxiv:{number}"
    return f"acl:{anthology}" if anthology else f"doi:{plain}" if plain else other


def _of_arxiv(doi: str) -> str:
    return doi if doi.lower().startswith("10.48550/") else ""


def arxiv_id(value: Any) -> str:
    """The arXiv number in an id, address or DOI, without its version; empty if there is none."""
    match = _ARXIV.search(value) if isinstance(value, str) else None
    return match["id"] if match else ""


def acl_id(value: Any) -> str:
    """The ACL Anthology's number in an id, address or DOI; empty if there is none."""
    if not isinstance(value, str):
        return ""
    match = _ACL.fullmatch(re.sub(r"^https?://(?:www\.|dx\.)?(?:doi\.org/)?", "", value))
    if not match:
        return ""
    number = match["id"]
    return number.upper() if number[0].isalpha() else number.lower()


def doi_in(value: Any) -> str:
    """The DOI in a DOI, an address or a label; empty if there is none."""
    match = _DOI.search(value) if isinstance(value, str) else None
    return match[0] if match else ""


def arxiv_year(number: str) -> int | None:
    """The year in which a paper of arXiv was first sent in, which its number tells."""
    match = re.fullmatch(
        r"(?:arxiv:)?(?:[a-z][a-z.-]*/)?([0-9]{2})[01][0-9](?:\.[0-9]{4,5}|[0-9]{3})", number, re.I
    )
    if not match:
        return None
    return int(match[1]) + (1900 if int(match[1]) > 90 else 2000)
