"""A corpus to a published index: read, encode in shards, index, publish; a killed build resumes."""

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import corpus
from data.corpus import Reading
from data.errors import UserError
from data.files import write_atomically
from data.filter import Filter
from data.paper import Paper
from data.table import BATCH, PaperTable
from indexer import lexical, vectors
from indexer.store import Generation, Manifest, Store
from model.encoder import Encoder, Vectors
from model.text import TEXT_FORM, passage_text

SHARD = 8 * BATCH  # papers: with the default encoder some ten seconds, the most that a kill can cost
REJECTS = "rejects.txt"  # the first thousand, with their places and reasons
STEP = 2 * BATCH  # papers between two steps of the progress

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total or 0 where unknown, unit)."""


def _silent(stage: str, done: int, total: int, unit: str) -> None:
    pass


def check(source: str, root: Path) -> None:
    """Raise at once what would stop a build before its first paper; call it before loading an encoder.

    Raises UserError for a source that is not there or not readable, and an unwritable or busy `root`.
    """
    if not (source.endswith(".bib") and Path(source).is_file()):  # BibTeX is parsed whole: once is enough
        next(corpus.read(source, Reading()), None)
    with Store(root).writing():
        pass


def build(
    source: str,
    root: Path,
    encoder: Encoder,
    keep: Filter | None = None,
    max_rejects: float = 0.05,
    progress: Progress = _silent,
    shard: int = SHARD,
) -> tuple[Generation, Reading]:
    """Build an index of `source` (see data.corpus.read) at `root` and publish it.

    What an unfinished build of the same source left in the staging folder is reused: the papers if
    the source is unchanged, and every shard of `shard` papers whose texts and encoder are the same.
    The index that is being served, if any, is untouched until the new one is whole.

    Raises UserError for an unreadable source, a corpus with too many rejects, an unwritable or
    busy `root`.
    """
    began = time.monotonic()
    keep = keep or Filter()
    source = str(Path(source).resolve()) if source != "starter" and Path(source).exists() else source
    store = Store(root)
    with store.writing():
        try:
            papers, reading = _read(store, source, keep, max_rejects, progress)
            shards = _encode(store.staging / "shards", papers, encoder, shard, progress)
            _fill(store.next, store.staging / "papers.arrow", shards, encoder, progress)
            if reading.rejects:
                (store.next / REJECTS).write_text("\n".join(reading.rejects) + "\n", encoding="utf-8")
            manifest = Manifest(
                papers=len(papers),
                dimension=encoder.dimension,
                metric="inner product of unit vectors",
                encoder=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
                precision=f"{encoder.precision} on {encoder.device}",
                text_form=TEXT_FORM,
                source=source,
                kept=asdict(keep),
                corpus_hash=_file_digest(store.staging / "papers.arrow"),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - began, 1),
                reading=reading.as_dict(),
            )
            return store.publish(manifest), reading
        except OSError as error:
            raise UserError(
                f"{root}: the index cannot be written ({error.strerror or error}); free space or choose "
                "another --index and run the same command again, finished shards are kept"
            ) from error


def _read(
    store: Store, source: str, keep: Filter, max_rejects: float, progress: Progress
) -> tuple[PaperTable, Reading]:
    """The corpus as a table in the staging folder, read now or by the build that was killed."""
    table, record = store.staging / "papers.arrow", store.staging / "reading.json"
    state = corpus.state(source)
    plan = json.loads(json.dumps([source, state, asdict(keep), max_rejects]))
    if state is not None and record.exists() and table.exists():
        try:
            done = json.loads(record.read_bytes())
            if done["plan"] == plan and done["sha256"] == _file_digest(table):
                return PaperTable(table), Reading(**done["reading"])
        except (ValueError, KeyError, TypeError):
            pass  # cut short by the kill: read again
    size = corpus.size(source)
    unit = "B" if size else " papers"
    reading = corpus.write(
        source, table, keep, max_rejects, lambda seen, _: progress("reading", seen, size, unit)
    )
    content = {"plan": plan, "sha256": _file_digest(table), "reading": vars(reading)}
    write_atomically(record, json.dumps(content).encode())
    return PaperTable(table), reading


def _encode(folder: Path, papers: PaperTable, encoder: Encoder, size: int, progress: Progress) -> list[Path]:
    """The files of the shards' vectors, in order; those that are there are not encoded again.

    A shard's name holds a digest of what went in (encoder and texts) and of what came out.
    """
    folder.mkdir(exist_ok=True)
    files = []
    for start in range(0, len(papers), size):
        members = papers.slice(start, start + size)
        key = _key(members, encoder)
        file = _kept(folder, key)
        if file:
            progress("kept", start + len(members), len(papers), " papers")
        else:
            blocks = []
            for step in range(0, len(members), STEP):
                progress("encoding", start + step, len(papers), " papers")
                blocks.append(encoder.encode_papers(members[step : step + STEP]).astype(np.float16))
            file = _save(folder, key, np.concatenate(blocks))
            progress("encoding", start + len(members), len(papers), " papers")
        files.append(file)
    return files


def _key(members: Sequence[Paper], encoder: Encoder) -> str:
    key = hashlib.sha256(encoder.fingerprint.encode())
    for paper in members:
        key.update(passage_text(paper).encode() + b"\0")
    return key.hexdigest()[:24]


def _kept(folder: Path, key: str) -> Path | None:
    for file in folder.glob(f"{key}-*.npy"):
        if file.stem == f"{key}-{_file_digest(file)}":
            return file
        file.unlink()
    return None


def _save(folder: Path, key: str, vectors: NDArray[np.float16]) -> Path:
    content = io.BytesIO()
    np.save(content, vectors)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()[:24]
    file = folder / f"{key}-{digest}.npy"
    write_atomically(file, content.getvalue())
    return file


def _fill(folder: Path, table: Path, shards: list[Path], encoder: Encoder, progress: Progress) -> None:
    """The files of the generation to come."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(table, folder / "papers.arrow")
    papers = PaperTable(table)

    def blocks() -> Iterator[Vectors]:
        for number, shard in enumerate(shards, 1):
            yield np.load(shard, allow_pickle=False).astype(np.float32)
            progress("vectors", number, len(shards), " shards")

    def texts() -> Iterator[list[str]]:
        for start in range(0, len(papers), SHARD):
            members: list[Paper] = papers.slice(start, start + SHARD)
            yield [lexical.text_of(paper) for paper in members]
            progress("words", start + len(members), len(papers), " papers")

    vectors.write(folder / "vectors.faiss", encoder.dimension, blocks())
    lexical.write(folder / "words", texts())


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]
