"""Corpora in: every supported source as a stream of papers, each bad record counted and named.

One pass, in constant memory but for 64 bits a paper that tell duplicates. A record that is no paper
is rejected with its place and the reason; above a share of rejects the reading fails, since then
the file is most likely not what it was taken for.
"""

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from data.clean import Rejected, to_paper
from data.errors import UserError
from data.paper import Paper
from data.table import PaperTable, PaperWriter

STARTER = Path(__file__).parent / "starter" / "papers"
MAX_LINE = 8 << 20  # bytes; the longest line of arXiv's snapshot is under 200 kB
LISTED_REJECTS = 1000
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_COMPRESSED = {".gz": gzip.open, ".zst": zstandard.open}

Progress = Callable[[int, int], None]
"""Called with (bytes or records read so far of the source, papers accepted so far)."""


@dataclass(frozen=True)
class Filter:
    """What to keep of a corpus: papers of any of the categories, first out in since..until.

    A category matches itself and its subcategories: `cs` keeps `cs.CL`. A paper without a year
    does not pass a year filter.
    """

    categories: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None

    def keeps(self, paper: Paper) -> bool:
        """Whether the paper passes."""
        if self.categories and not any(
            c == wanted or c.startswith(wanted + ".") for c in paper.categories for wanted in self.categories
        ):
            return False
        if self.since is None and self.until is None:
            return True
        return paper.year is not None and (self.since or 0) <= paper.year <= (self.until or 9999)


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
"""Where a record stands, and the record: a dict, or a Rejected that says why there is none."""


def read(source: str, reading: Reading, progress: Progress | None = None) -> Iterator[Paper]:
    """The papers of a source in its order, duplicates included; counts go into `reading`.

    A source is a file (`.jsonl`, `.json`, `.csv`, `.tsv`, each also with .gz or .zst, `.parquet`,
    `.bib`), a folder of such files, a BEIR folder, the word `starter`, or the name of a Hugging
    Face data set (`hf:owner/name`, `hf:owner/name:split`).

    Raises UserError where the source cannot be read at all.
    """
    for place, record in _records(source, lambda seen: progress and progress(seen, reading.read)):
        reading.read += 1
        try:
            if isinstance(record, Rejected):
                raise record
            yield to_paper(record)
        except Rejected as error:
            reading.reject(place, str(error))


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
    seen: set[int] = set()
    twice: set[str] = set()
    with PaperWriter(path) as writer:
        for paper in read(source, reading, progress):
            if not keep.keeps(paper):
                reading.filtered += 1
                continue
            key = hash(paper.paper_id)
            if key in seen:
                twice.add(paper.paper_id)
            seen.add(key)
            writer.add(paper)
    if reading.rejected > max_rejects * reading.read:
        raise UserError(
            f"{source}: {reading.rejected:,} of {reading.read:,} records are no papers (the limit is "
            f"{max_rejects:.0%}), the first: {reading.rejects[0]}; mend the source or raise --max-rejects"
        )
    if twice:
        reading.duplicates = _drop_superseded(path, twice)
    reading.accepted = writer.count - reading.duplicates
    if not reading.accepted:
        why = f"all {reading.filtered:,} were filtered out" if reading.filtered else "it is empty"
        raise UserError(f"{source}: no papers in it ({why})")
    return reading


def _drop_superseded(path: Path, twice: set[str]) -> int:
    """Rewrite the table without the losers among records of one id; the number dropped."""
    best: dict[str, tuple[int, str]] = {}
    for paper in PaperTable(path):
        if paper.paper_id in twice:
            rank = (paper.version, paper.content_hash())
            best[paper.paper_id] = max(rank, best.get(paper.paper_id, rank))
    dropped = 0
    rest = path.with_suffix(".unique")
    with PaperWriter(rest) as writer:
        for paper in PaperTable(path):
            if paper.paper_id in twice:
                # The winner's entry goes with its first copy, so that an equal record counts as lost.
                if best.get(paper.paper_id) != (paper.version, paper.content_hash()):
                    dropped += 1
                    continue
                del best[paper.paper_id]
            writer.add(paper)
    rest.replace(path)
    return dropped


def _records(source: str, seen: Callable[[int], object]) -> Iterator[Record]:
    if source == "starter":
        source = str(STARTER)
    path = Path(source)
    try:
        if path.is_dir():
            yield from _folder(path, seen)
        elif path.exists():
            yield from _file(path, seen)
        elif source.startswith("hf:") or _HUB_NAME.fullmatch(source):
            yield from _hugging_face(source.removeprefix("hf:"), seen)
        else:
            raise UserError(f"{source}: no such file or folder (a Hugging Face data set is hf:NAME)")
    except (OSError, EOFError, zstandard.ZstdError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: cannot be read ({reason}); fetch or export it again") from None


def _folder(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    beir = path / "corpus.jsonl"
    files = [beir] if beir.exists() else [f for f in sorted(path.iterdir()) if _reader(f)]
    if not files:
        raise UserError(f"{path}: no corpus file in this folder (known: {', '.join(_READERS)})")
    done = 0
    for file in files:
        for place, record in _file(file, lambda n, done=done: seen(done + n)):  # type: ignore[misc]
            yield f"{file.name} {place}", record
        done += file.stat().st_size


def _file(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    reader = _reader(path)
    if reader is None:
        known = ", ".join(_READERS)
        raise UserError(f"{path}: unknown format {path.suffix or '(no suffix)'!r} (known: {known})")
    return reader(path, seen)


def _reader(path: Path) -> Callable[[Path, Callable[[int], object]], Iterator[Record]] | None:
    suffixes = path.suffixes
    kind = suffixes[-2] if suffixes[-1:] and suffixes[-1] in _COMPRESSED and suffixes[1:] else None
    reader = _READERS.get(kind or path.suffix)
    return None if kind and reader in (_parquet, _bibtex) else reader


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """The file's content, decompressed, and a function that tells the bytes of the file read."""
    with path.open("rb") as raw:
        decompress = _COMPRESSED.get(path.suffix)
        stream: Any = decompress(raw, "rb") if decompress else raw  # type: ignore[operator]
        yield (io.BufferedReader(stream, 1 << 20) if decompress else stream), raw.tell


def _json_lines(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    with _opened(path) as (stream, tell):
        number = 0
        while line := stream.readline(MAX_LINE):
            number += 1
            if number % 1000 == 1:
                seen(tell())
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                while rest := stream.readline(MAX_LINE):
                    if rest.endswith(b"\n"):
                        break
                yield f"line {number}", Rejected(f"a line of over {MAX_LINE:,} bytes")
                continue
            if number == 1 and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
                raise UserError(
                    f"{path}: a JSON array, not JSON lines; convert it with: jq -c '.[]' {path.name}"
                )
            if line.isspace():
                continue
            yield f"line {number}", _json(line)
        seen(tell())


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:  # the standard parser takes lone surrogates and NaN, which are cleaned later
        return json.loads(line.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError) as error:
        return Rejected(f"not JSON ({str(error).split(':')[0]})")


def _parquet(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    with pq.ParquetFile(path, page_checksum_verification=True, memory_map=True) as file:
        row, total, size = 0, max(file.metadata.num_rows, 1), path.stat().st_size
        for batch in file.iter_batches(batch_size=1000):
            for record in batch.to_pylist():
                row += 1
                yield f"row {row}", record
            seen(size * row // total)


def _csv(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE)
    with _opened(path) as (stream, tell):
        lines = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
        tab = ".tsv" in path.suffixes
        rows = csv.DictReader(lines, delimiter="\t" if tab else ",")
        if not rows.fieldnames or "title" not in (n.strip().lower() for n in rows.fieldnames if n):
            raise UserError(f"{path}: no column 'title' in the header line ({rows.fieldnames})")
        rows.fieldnames = [(name or "").strip().lower() for name in rows.fieldnames]
        while True:
            try:
                record: Any = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                record = Rejected(f"not CSV ({error})")
            else:
                if None in record:
                    record = Rejected("more fields than the header line")
            if rows.line_num % 100 == 0:
                seen(tell())
            yield f"line {rows.line_num}", record


def _bibtex(path: Path, seen: Callable[[int], object]) -> Iterator[Record]:
    from data.bibliography import bibtex_records  # heavy, and only this format needs it

    seen(path.stat().st_size)
    return bibtex_records(path.read_text("utf-8", errors="replace"))


def _hugging_face(name: str, seen: Callable[[int], object]) -> Iterator[Record]:
    import datasets  # heavy, and only this source needs it

    name, _, split = name.partition(":")
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, split=split or "train", streaming=True)
        for row, record in enumerate(rows, 1):
            if row % 100 == 0:
                seen(row)
            yield f"row {row}", record
    except Exception as error:  # the library raises whatever its readers and the network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"hf:{name}: the data set cannot be loaded ({reason}); check the name, the split and the network"
        ) from error


_READERS = {
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".bib": _bibtex,
}


def size(source: str) -> int:
    """The bytes a progress bar counts up to; 0 where the size is not known beforehand."""
    path = STARTER if source == "starter" else Path(source)
    if path.is_dir():
        beir = path / "corpus.jsonl"
        files = [beir] if beir.exists() else [f for f in path.iterdir() if _reader(f)]
        return sum(f.stat().st_size for f in files)
    return path.stat().st_size if path.is_file() else 0


def state(source: str) -> list[list[Any]] | None:
    """What tells whether a source changed: (name, bytes, time) of its files; None for a remote one."""
    path = STARTER if source == "starter" else Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if not all(f.exists() for f in files):
        return None
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if _reader(f)]
