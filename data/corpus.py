"""Corpora in: every supported source as a stream of papers, each bad record counted and named.

One pass, in constant memory but for 64 bits a paper that tell duplicates; a second pass only where
there are some. A record that is no paper is rejected with its place and the reason; above a share
of rejects the reading fails, since then the file is most likely not what it was taken for.
"""

import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.clean import FIELDS, Rejected, to_paper
from data.columns import Block
from data.errors import UserError, first_line
from data.filter import Filter
from data.formats import KNOWN, Record, Seen, cut, is_plain_lines, reader_of, records
from data.paper import Paper
from data.parallel import pieces
from data.semantic_scholar import with_abstracts
from data.table import PaperTable, PaperWriter

STARTER = Path(__file__).parent / "starter" / "papers"
LISTED_REJECTS = 1000

Progress = Callable[[int, int], None]
"""Called now and then with the bytes of the source read so far (see data.formats.Seen), and the records."""


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
    with PaperWriter(path) as writer, closing(_batches(source, reading, progress)) as batches:
        for batch in batches:
            kept = batch.filter(pa.array(keep.of_batch(batch))) if keep else batch
            reading.filtered += len(batch) - len(kept)
            hashes.extend(map(hash, kept["paper_id"].to_pylist()))
            writer.add_batch(kept)
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


def _batches(
    source: str, reading: Reading, progress: Progress | None
) -> Generator[pa.RecordBatch, None, None]:
    """What `read` gives, as rows."""
    path = Path(source)
    if path.is_file() and is_plain_lines(path):
        yield from _by_pieces(path, reading, progress)
        return
    block, places = Block(), []
    for place, record in _records(source, lambda seen: progress and progress(seen, reading.read)):
        reading.read += 1
        block.add(record)
        places.append(place)
        if block.full:
            yield _finished(block, places, reading)
            block, places = Block(), []
    yield _finished(block, places, reading)


def _by_pieces(path: Path, reading: Reading, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    lines = 0
    for end, piece in pieces(path):
        reading.read += piece.records
        for line, reason in piece.rejects:
            reading.reject(f"line {lines + line}", reason)
        lines += piece.lines
        if progress:
            progress(end, reading.read)
        yield piece.rows


def _finished(block: Block, places: list[str], reading: Reading) -> pa.RecordBatch:
    batch, rejects = block.finish()
    for number, reason in rejects:
        reading.reject(places[number], reason)
    return batch


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
        raise UserError(f"{path}: no corpus file in this folder (known: {KNOWN})")
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
    files = [f for f in sorted(path.iterdir()) if f.is_file() and reader_of(f)]
    parts = [f for f in sorted(path.iterdir()) if f.is_dir() and "=" in f.name]
    return [*files, *(file for part in parts for file in _files(part))]


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
            f"{source}: the data set cannot be loaded ({cut(first_line(error))}); "
            "check the name, the split and the network"
        ) from error


def size(source: str) -> int:
    """The bytes a progress bar counts up to; 0 where the size is not known beforehand."""
    return sum(f.stat().st_size for f in _files(STARTER if source == "starter" else Path(source)))


def state(source: str) -> list[list[Any]] | None:
    """What tells whether a source changed: (name, bytes, time) of its files; None for a remote one."""
    files = _files(STARTER if source == "starter" else Path(source))
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files] or None
