"""The address of a collection in Milvus, as `--to` and `--engine` take it.

    milvus://HOST:PORT/COLLECTION              a server; milvus+https:// where it speaks TLS
    milvus://HOST:PORT/DATABASE/COLLECTION     in a database of it
    milvus:///FOLDER/FILE.db/COLLECTION        Milvus Lite: a folder on this machine, no server

Search parameters of Milvus may follow, as in `?ef=512`. A password has no place in an address, which
ends up in logs and shell histories: it is read from CITEMARK_MILVUS_TOKEN.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from data.errors import UserError

PORT = 19530
TOKEN = "CITEMARK_MILVUS_TOKEN"
_SERVERS = {"milvus": "http", "milvus+https": "https"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")  # Milvus has 255, less what a publication appends
_FORMS = f"write milvus://HOST:{PORT}/COLLECTION, milvus+https://… or milvus:///FOLDER/FILE.db/COLLECTION"


class NotPublished(UserError):
    """The collection holds another generation than the index, or none."""


@dataclass(frozen=True)
class Address:
    """Where a collection is; `uri` is what the client connects to."""

    text: str
    uri: str
    database: str
    collection: str
    params: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return self.text

    @property
    def local(self) -> bool:
        """Whether this is a file of Milvus Lite."""
        return self.uri.endswith(".db")


def is_address(text: str) -> bool:
    """Whether the text means to be an address of Milvus."""
    return text.partition("://")[0] in _SERVERS


def parse(text: str) -> Address:
    """The address that a text names. Raises UserError for one that is none, or that holds a password."""
    try:
        parts = urlsplit(text)
        port = parts.port or PORT
    except ValueError as error:
        raise UserError(f"{text!r} is no address of Milvus ({error}); {_FORMS}") from None
    if "@" in parts.netloc:
        raise UserError(f"the address of Milvus at {parts.hostname} holds a password; put it into {TOKEN}")
    folder, _, collection = unquote(parts.path).rpartition("/")
    if parts.scheme not in _SERVERS or not _NAME.fullmatch(collection):
        raise UserError(f"{text!r} is no address of a collection in Milvus; {_FORMS}")
    params = _numbers(text, parts.query)
    if not parts.netloc:
        if not folder.endswith(".db") or parts.scheme != "milvus":
            raise UserError(f"{text!r} has neither a host nor a file ending in .db; {_FORMS}")
        return Address(text, folder, "", collection, params)
    database = folder.strip("/")
    if database and not _NAME.fullmatch(database):
        raise UserError(f"{text!r} names no database of Milvus; {_FORMS}")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return Address(text, f"{_SERVERS[parts.scheme]}://{host}:{port}", database, collection, params)


def _numbers(text: str, query: str) -> tuple[tuple[str, float], ...]:
    try:
        values = [(name, float(value)) for name, value in parse_qsl(query, strict_parsing=bool(query))]
    except ValueError:
        raise UserError(f"{text!r}: a search parameter is not a number, as in ?ef=512") from None
    return tuple((name, int(value) if value.is_integer() else value) for name, value in values)
