"""Corpora in: every supported source as a stream of papers, each bad record counted and named.

One pass, in constant memory but for 64 bits a paper that tell duplicates; a second pass only where
there are some. A record that is no paper is rejected with its place and the reason; above a share
of rejects the reading fails, since then the file is most likely not what it was taken for.
"""

import csv
import io
import json
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data.clean import FIELDS, Rejected, to_paper
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.semantic_scholar import with_abstracts
from data.table import PaperTable, PaperWriter
from data.zotero import is_paper

STARTER = Path(__file__).parent / "starter" / "papers"
MAX_JSON = 256 << 20  # bytes of a JSON file that is one document, so must be read whole
MAX_LINE = 8 << 20  # bytes; the longest line of arXiv's snapshot is under 200 kB
LISTED_REJECTS = 1000
_BLANK = b"\xef\xbb\xbf \t\r\n"
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}

Seen = Callable[[int], object]
"""Called now and then with the bytes of the source read so far (records, of a Hugging Face data set)."""

Progress = Callable[[int, int], None]
"""The same with the records read so far as a second number."""


@dataclass
class Reading:
    """What became of the records: read = accepted + rejected + filtered + duplicates."""

    read: int = 0
    accepted: int = 0
    filtered: int = 0
    duplicates: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rejects: list[str] = field(default_factory=list)

    def reject(self, place: str, reason: str) -> None:
        """Count one rejected record and list it while the list is short."""
        self.rejected += 1
        self.reasons[re.sub(r"[\d,]+|'.*'|\".*\"", "…", reason)] += 1
        if len(self.rejects) < LISTED_REJECTS:
            self.rejects.append(f"{place}: {reason}")

    def as_dict(self) -> dict[str, Any]:
        """The counts, for the manifest."""
        names = ("read", "accepted", "filtered", "duplicates", "rejected")
        return {name: getattr(self, name) for name in names} | {"reasons": dict(self.reasons)}


Record = tuple[str, Any]
"""Where a record stands, and the record: any value, or a Rejected that says why there is none."""


def read(source: str, reading: Reading, progress: Progress | None = None) -> Iterator[Paper]:
    """The papers of a source in its order, duplicates included; counts go into `reading`.

    A source is a file (`.jsonl`, `.json`, `.csv`, `.tsv`, each also with .gz or .zst, `.parquet`,
    `.bib`, `.xml` of the ACL Anthology, `.rdf` of Zotero), a folder of such files, parts of which may
    be in folders `name=value`, a BEIR folder, a folder with Semantic Scholar's data sets `papers` and
    `abstracts`, the word `starter`, or a Hugging Face data set (`hf:owner/name` or `hf:folder`, either
    with `:split` behind it). What the catalogues call their fields is data.sources' to know.

    Raises UserError where the source cannot be read at all.
    """
    for place, record in _records(source, lambda seen: progress and progress(seen, reading.read)):
        reading.read += 1
        try:
            if isinstance(record, Rejected):
                raise record
            paper = to_paper(record)
        except Rejected as error:
            reading.reject(place, str(error))
            continue
        yield paper


def write(
    source: str,
    path: Path,
    keep: Filter,
    max_rejects: float = 0.05,
    progress: Progress | None = None,
) -> Reading:
    """Read a source into one table of papers at `path`, each id once, its highest version.

    Raises UserError for an unreadable source, one with more than the share `max_rejects` of
    rejects, and one of which no paper is left.
    """
    reading = Reading()
    hashes = array("q")
    with PaperWriter(path) as writer:
        for paper in read(source, reading, progress):
            if keep.keeps(paper):
                hashes.append(hash(paper.paper_id))
                writer.add(paper)
            else:
                reading.filtered += 1
    if reading.rejected > max_rejects * reading.read:
        raise UserError(
            f"{source}: {reading.rejected:,} of {reading.read:,} records are no papers (the limit is "
            f"{max_rejects:.0%}), the first: {reading.rejects[0]}; mend the source or raise --max-rejects"
        )
    twice = _repeated(hashes)
    if twice:
        reading.duplicates = _drop_superseded(path, twice)
    reading.accepted = writer.count - reading.duplicates
    if not reading.accepted:
        raise UserError(f"{source}: no papers in it ({_why_none(reading)})")
    return reading


def _why_none(reading: Reading) -> str:
    if not reading.read:
        return "it is empty"
    return (
        f"of {reading.read:,} records {reading.filtered:,} were filtered out, {reading.rejected:,} rejected"
    )


def _repeated(hashes: "array[int]") -> set[int]:
    """The values that occur more than once."""
    ordered = np.sort(np.frombuffer(hashes, dtype=np.int64)) if hashes else np.empty(0, np.int64)
    return set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _drop_superseded(path: Path, twice: set[int]) -> int:
    """Rewrite the table without the losers among records of one id; the number dropped."""
    best: dict[str, tuple[int, str]] = {}
    for paper in PaperTable(path):
        if hash(paper.paper_id) in twice:
            rank = (paper.version, paper.content_hash())
            best[paper.paper_id] = max(rank, best.get(paper.paper_id, rank))
    dropped = 0
    rest = path.with_suffix(".unique")
    with PaperWriter(rest) as writer:
        for paper in PaperTable(path):
            if hash(paper.paper_id) in twice:
                # The winner's entry goes with its first copy, so that an equal record counts as lost.
                if best.get(paper.paper_id) != (paper.version, paper.content_hash()):
                    dropped += 1
                    continue
                del best[paper.paper_id]
            writer.add(paper)
    rest.replace(path)
    return dropped


def _records(source: str, seen: Seen) -> Iterator[Record]:
    path = STARTER if source == "starter" else Path(source)
    if source.startswith("hf:"):
        yield from _hugging_face(source, seen)
    elif path.is_dir():
        yield from _folder(path, seen)
    elif path.exists():
        yield from records(path, FIELDS, seen)
    else:
        hint = f"; a Hugging Face data set is hf:{source}" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
        raise UserError(f"{source}: no such file or folder{hint}")


def _folder(path: Path, seen: Seen) -> Iterator[Record]:
    files = _files(path)
    if not files:
        raise UserError(f"{path}: no corpus file in this folder (known: {', '.join(_READERS)})")
    abstracts = [file for file in files if file.parent == path / "abstracts"]
    if not abstracts:
        yield from _several(files, seen)
        return
    with tempfile.TemporaryDirectory() as folder:
        papers = [file for file in files if file.parent == path / "papers"]
        before = sum(file.stat().st_size for file in abstracts)
        yield from with_abstracts(
            _several(papers, lambda n: seen(before + n)), _several(abstracts, seen), Path(folder)
        )


def _several(files: list[Path], seen: Seen) -> Iterator[Record]:
    done = 0
    for file in files:
        for place, record in records(file, FIELDS, lambda n, done=done: seen(done + n)):  # type: ignore[misc]
            yield f"{file.name} {place}", record
        done += file.stat().st_size


def _files(path: Path) -> list[Path]:
    """The files of a source that are read: of a BEIR folder its corpus, of another all that are known."""
    if not path.is_dir():
        return [path] if path.exists() else []
    beir = path / "corpus.jsonl"
    if beir.exists():
        return [beir]
    # Semantic Scholar's dumps are two folders, OpenAlex' snapshot has works/updated_date=2026-01-31/….
    dump = [path / name for name in ("abstracts", "papers")]
    if all(part.is_dir() for part in dump):
        return [file for part in dump for file in _files(part)]
    files = [f for f in sorted(path.iterdir()) if f.is_file() and _reader(f)]
    parts = [f for f in sorted(path.iterdir()) if f.is_dir() and "=" in f.name]
    return [*files, *(file for part in parts for file in _files(part))]


def records(path: Path, fields: tuple[str, ...], seen: Seen = lambda _: None) -> Iterator[Record]:
    """The records of a file of any known format; a bad one comes as a Rejected.

    Columns other than `fields` are not read where the format allows it, and the first of them is one
    that a table must have. Raises UserError where the file cannot be read.
    """
    reader = _reader(path)
    if reader is None:
        known = ", ".join(_READERS)
        raise UserError(f"{path}: unknown format {path.suffix or '(no suffix)'!r} (known: {known})")
    try:
        yield from reader(path, fields, seen)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({_first_line(error)}); fetch or export it again") from None


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return _cut(lines[0]) if lines else type(error).__name__


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _quoted(names: Sequence[str]) -> str:
    """Names that a file gives its columns, for a message: they may hold line ends, or be a whole file."""
    shown = [_cut(repr(name), 40) for name in names[:12]]
    return ", ".join([*shown, f"… {len(names)} in all"] if len(names) > len(shown) else shown) or "nothing"


_Reader = Callable[[Path, tuple[str, ...], Seen], Iterator[Record]]


def _reader(path: Path) -> _Reader | None:
    """The reader of a file by its suffix, before which of the formats by lines may have one more."""
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
        number, empty = 0, True
        while line := stream.readline(MAX_LINE):
            number += 1
            if number % 1000 == 1:
                seen(tell())
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                _skip_line(stream)
                yield f"line {number}", Rejected(f"a line of over {MAX_LINE:,} bytes")
            elif not line.isspace():
                if empty and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
                    raise UserError(
                        f"{path}: a JSON array, not JSON lines; convert it with: jq -c '.[]' {path.name}"
                    )
                empty = False
                yield f"line {number}", _json(line)
        seen(tell())


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
        if start.startswith(b"{") and isinstance(record := _json(start), dict):
            return _listed(record)
        if not start.startswith((b"[", b"{")):
            return None
        content = start + stream.read(MAX_JSON)
    if len(content) > MAX_JSON:
        raise UserError(
            f"{path}: one JSON document of over {MAX_JSON:,} bytes, not JSON lines; "
            f"convert it with: jq -c '.[]' {path.name}"
        )
    document = _json(content)
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


def _skip_line(stream: IO[bytes]) -> None:
    while rest := stream.readline(MAX_LINE):
        if rest.endswith(b"\n"):
            return


def _json(line: bytes) -> Any:
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
            f"{path}: <{_cut(name(root), 30)}>, neither a <collection> of the ACL Anthology nor Zotero's RDF"
        )
    yield from anthology_records(root) if name(root) == "collection" else rdf_records(root)
    seen(path.stat().st_size)


def _hugging_face(source: str, seen: Seen) -> Iterator[Record]:
    import datasets  # heavy, and only this source needs it

    name, _, split = source.removeprefix("hf:").partition(":")
    try:
        for row, record in enumerate(datasets.load_dataset(name, split=split or "train", streaming=True), 1):
            if row % 100 == 0:
                seen(row)
            yield f"row {row}", record
    except Exception as error:  # the library raises whatever its readers and the network raise
        raise UserError(
            f"{source}: the data set cannot be loaded ({_first_line(error)}); "
            "check the name, the split and the network"
        ) from error


_READERS: dict[str, _Reader] = {
    ".jsonl": _json_lines,
    ".json": _json_file,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".bib": _bibtex,
    ".xml": _xml,
    ".rdf": _xml,
}


def size(source: str) -> int:
    """The bytes a progress bar counts up to; 0 where the size is not known beforehand."""
    return sum(f.stat().st_size for f in _files(STARTER if source == "starter" else Path(source)))


def state(source: str) -> list[list[Any]] | None:
    """What tells whether a source changed: (name, bytes, time) of its files; None for a remote one."""
    files = _files(STARTER if source == "starter" else Path(source))
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files] or None
