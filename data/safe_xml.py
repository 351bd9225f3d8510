"""XML of strangers: no document types, no entities but the five, no fetching, a limit on the size."""

import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException

from data.errors import UserError

MAX_BYTES = 256 << 20
_FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
    r"|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]));"
)


class BadXml(ValueError):
    """The document cannot be read; the message says why."""


def parse(content: bytes) -> Element:
    """The root of a document that is whole.

    Characters that XML forbids, and bytes that are no UTF-8, are taken out: catalogues have them.
    Raises BadXml for a document that is cut short or not well-formed, and for a document type.
    """
    try:
        return _parse(content)
    except ParseError as error:
        mended = _FORBIDDEN.sub(" ", content.decode("utf-8-sig", errors="replace")).encode()
        try:
            return _parse(mended)
        except ParseError:
            raise BadXml(f"no well-formed XML ({error})") from None


def _parse(content: bytes) -> Element:
    try:
        root: Element = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
        return root
    except DefusedXmlException as error:
        raise BadXml(f"XML with a document type or entities ({type(error).__name__})") from None
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise BadXml(f"no readable XML ({error})") from None


def parse_file(path: Path) -> Element:
    """The same of a file; raises UserError."""
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes of XML, the limit is {MAX_BYTES:,}; split it")
    try:
        return parse(path.read_bytes())
    except BadXml as error:
        raise UserError(f"{path}: {error}; fetch or export it again") from None


def name(element: Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def texts(element: Element | None, wanted: str) -> list[str]:
    """The text of every child of that name, whatever its namespace."""
    return [] if element is None else ["".join(c.itertext()).strip() for c in element if name(c) == wanted]


def text(element: Element | None, wanted: str) -> str:
    """The text of the first such child, or nothing."""
    return next(iter(texts(element, wanted)), "")
