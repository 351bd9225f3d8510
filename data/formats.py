"""The formats that corpora come in: every file as a stream of records, each bad one named."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data.clean import Rejected
from data.errors import UserError, first_line
from data.zotero import is_paper

MAX_JSON = 256 << 20  # bytes of a JSON file that is one document, so must be read whole
MAX_LINE = 8 << 20  # bytes; the longest line of arXiv's snapshot is under 200 kB
_BLANK = b"\xef\xbb\xbf \t\r\n"
_SPACE = _BLANK + b"\v\f"
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}

Seen = Callable[[int], object]
"""Called now and then with the bytes of the source read so far (records, of a Hugging Face data set)."""

Record = tuple[str, Any]
"""Where a record stands, and the record: any value, or a Rejected that says why there is none."""


def records(path: Path, fields: tuple[str, ...], seen: Seen = lambda _: None) -> Iterator[Record]:
    """The records of a file of any known format; a bad one comes as a Rejected.

    Columns other than `fields` are not read where the format allows it, and the first of them is one
    that a table must have. Raises UserError where the file cannot be read.
    """
    reader = reader_of(path)
    if reader is None:
        raise UserError(f"{path}: unknown format {path.suffix or '(no suffix)'!r} (known: {KNOWN})")
    with readable(path):
        yield from reader(path, fields, seen)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises UserError where what is done cannot read the file."""
    try:
        yield
    except (OSError, pa.ArrowException, csv.Error) as error:
        reason = cut(first_line(error))
        raise UserError(f"{path}: cannot be read ({reason}); fetch or export it again") from None


def cut(text: str, most: int = 200) -> str:
    """Text of a foreign file or library, short enough for a message."""
    return text if len(text) <= most else f"{text[:most]}…"


def _quoted(names: Sequence[str]) -> str:
    """Names that a file gives its columns, for a message: they may hold line ends, or be a whole file."""
    shown = [cut(repr(name), 40) for name in names[:12]]
    return ", ".join([*shown, f"… {len(names)} in all"] if len(names) > len(shown) else shown) or "nothing"


Reader = Callable[[Path, tuple[str, ...], Seen], Iterator[Record]]


def reader_of(path: Path) -> Reader | None:
    """The reader of a file by its suffix, before which of the formats by lines may have one more.

    None for a format that is not known.
    """
    if path.suffix in _COMPRESSED:
        # Dumps of catalogues come as part_000.gz, which are JSON lines.
        reader = _READERS.get(Path(path.stem).suffix or ".jsonl")
        return reader if reader in (_json_lines, _json_file, _csv) else None
    return _READERS.get(path.suffix)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """The file's content, decompressed, and a function that tells the bytes of the file read.

    Arrow decompresses: of all readers at hand it alone finds a cut zstd file to be cut.
    """
    with path.open("rb") as raw:
        stream: Any = raw
        if path.suffix in _COMPRESSED:
            inner = pa.PythonFile(raw, mode="r")
            stream = io.BufferedReader(pa.CompressedInputStream(inner, _COMPRESSED[path.suffix]), 1 << 20)
        yield stream, raw.tell


def _json_lines(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    with _opened(path) as (stream, tell):
        empty = True
        for number, line in enumerate(lines_of(stream), 1):
            if number % 1000 == 1:
                seen(tell())
            if isinstance(line, Rejected):
                yield f"line {number}", line
            elif not line.isspace():
                if empty and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
                    raise UserError(
                        f"{path}: a JSON array, not JSON lines; convert it with: jq -c '.[]' {path.name}"
                    )
                empty = False
                yield f"line {number}", json_of(line)
        seen(tell())


def lines_of(stream: IO[bytes], most: float = inf) -> Iterator[bytes | Rejected]:
    """Every line that begins within the next `most` bytes; a Rejected for one of over MAX_LINE."""
    while most > 0 and (line := stream.readline(MAX_LINE)):
        most -= len(line)
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            most -= _skip_line(stream)
            yield Rejected(f"a line of over {MAX_LINE:,} bytes")
        else:
            yield line


def is_plain_lines(path: Path) -> bool:
    """Whether a file is surely JSON lines, uncompressed: any of them can be read without those before it.

    Raises UserError where the file cannot be read.
    """
    reader = reader_of(path) if path.suffix not in _COMPRESSED else None
    if reader not in (_json_lines, _json_file):
        return False
    with readable(path), path.open("rb") as stream:
        filled = (line for line in lines_of(stream) if isinstance(line, Rejected) or line.strip(_SPACE))
        first = next(filled, b"")
    if isinstance(first, Rejected) or first.strip(_SPACE).startswith(b"["):
        return False
    if reader is _json_lines or not first.strip(_SPACE).startswith(b"{"):
        return True
    record = json_of(first)
    return isinstance(record, dict) and _listed(record) is None


def _json_file(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    """JSON lines, or one document: a list, or an object with a list of items, as libraries export it."""
    items = _json_items(path)
    if items is None:
        yield from _json_lines(path, fields, seen)
        return
    yield from ((f"item {number}", item) for number, item in enumerate(items, 1) if is_paper(item))
    seen(path.stat().st_size)


def _json_items(path: Path) -> list[Any] | None:
    """The items of a JSON document; None for JSON lines."""
    with _opened(path) as (stream, _):
        first = b""
        while not first.strip(_BLANK) and (line := stream.readline(MAX_LINE)):
            first += line
        start = first.strip(_BLANK)
        if start.startswith(b"{") and isinstance(record := json_of(start), dict):
            return _listed(record)
        if not start.startswith((b"[", b"{")):
            return None
        content = start + stream.read(MAX_JSON)
    if len(content) > MAX_JSON:
        raise UserError(
            f"{path}: one JSON document of over {MAX_JSON:,} bytes, not JSON lines; "
            f"convert it with: jq -c '.[]' {path.name}"
        )
    document = json_of(content)
    if isinstance(document, list):
        return document
    if start.startswith(b"{"):
        return _listed(document) if isinstance(document, dict) else None
    raise UserError(f"{path}: {document}; export it again")


def _listed(document: dict[str, Any]) -> list[Any] | None:
    """Better BibTeX has `items`, OpenAlex' answers `results`, Semantic Scholar's `data`."""
    if "title" in document:
        return None
    lists = (document.get(name) for name in ("items", "results", "data"))
    return next((value for value in lists if isinstance(value, list)), None)


def _skip_line(stream: IO[bytes]) -> int:
    """Leaves the rest of a line behind; the bytes that it has."""
    size = 0
    while rest := stream.readline(MAX_LINE):
        size += len(rest)
        if rest.endswith(b"\n"):
            break
    return size


def json_of(line: bytes) -> Any:
    """The value of a line of JSON, or a Rejected that says why it has none."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:  # the standard parser takes lone surrogates and NaN, which are cleaned later
        return json.loads(line.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        return Rejected(f"not JSON ({str(error).split(':')[0]})")


def _parquet(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    with pq.ParquetFile(path, page_checksum_verification=True, buffer_size=1 << 20) as file:
        names = file.schema_arrow.names
        if fields[0] not in names:
            raise UserError(f"{path}: no column {fields[0]!r} (it has {_quoted(names)})")
        row, total, size = 0, max(file.metadata.num_rows, 1), path.stat().st_size
        for batch in file.iter_batches(1000, columns=[name for name in names if name in fields]):
            for record in _rows(batch):
                row += 1
                yield f"row {row}", record
            seen(size * row // total)


def _rows(batch: pa.RecordBatch) -> Iterator[Any]:
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError) as error:  # no UTF-8, or a date that Python does not know
        if len(batch) == 1:
            yield Rejected(f"an unreadable value ({type(error).__name__})")
            return
        for row in range(len(batch)):
            yield from _rows(batch.slice(row, 1))


def _csv(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE)
    with _opened(path) as (stream, tell):
        text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
        lines = iter(lambda: text.readline(MAX_LINE), "")
        rows = csv.DictReader(lines, delimiter="\t" if ".tsv" in path.suffixes else ",")
        names = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        if fields[0] not in names:
            raise UserError(f"{path}: no column {fields[0]!r} in the header line ({_quoted(names)})")
        rows.fieldnames = names
        while True:
            start = rows.line_num + 1
            try:
                record: Any = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                record = Rejected(f"not CSV ({error})")
            else:
                if None in record:
                    record = Rejected("more fields than the header line")
            if start % 100 == 0:
                seen(tell())
            yield f"line {start}", record


def _bibtex(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    from data.bibliography import bibtex_records  # heavy, and only this format needs it

    yield from bibtex_records(path.read_text("utf-8-sig", errors="replace"))
    seen(path.stat().st_size)


def _xml(path: Path, fields: tuple[str, ...], seen: Seen) -> Iterator[Record]:
    from data.acl_anthology import anthology_records
    from data.safe_xml import name, parse_file
    from data.zotero import rdf_records

    root = parse_file(path)
    if name(root) not in ("collection", "RDF"):
        raise UserError(
            f"{path}: <{cut(name(root), 30)}>, neither a <collection> of the ACL Anthology nor Zotero's RDF"
        )
    yield from anthology_records(root) if name(root) == "collection" else rdf_records(root)
    seen(path.stat().st_size)


_READERS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".json": _json_file,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".bib": _bibtex,
    ".xml": _xml,
    ".rdf": _xml,
}


KNOWN = ", ".join(_READERS)
"""The suffixes of the known formats, for messages."""
