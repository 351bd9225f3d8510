"""A corpus to a published index: read, encode in shards, index, publish; a killed build resumes."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data import corpus
from data.contexts import Citation, read_queries
from data.corpus import Reading
from data.errors import UserError
from data.files import write_atomically
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from indexer import atlas, authors, evidence, gpu, kinds, lexical, room, starter_evidence, vectors
from indexer.kinds import Kind
from indexer.shards import SHARD, Engine, Folder, Local, Progress, encode_missing
from indexer.snapshot import EVIDENCE
from indexer.store import METRIC, Generation, Manifest, Store
from model.encoder import Encoder, Vectors
from model.text import TEXT_FORM

REJECTS = "rejects.txt"  # the first thousand, with their places and reasons


def silent(stage: str, done: int, total: int, unit: str) -> None:
    """The progress of nobody who looks."""


def resolved(source: str) -> str:
    """A source as a manifest names it: found from any folder."""
    return str(Path(source).resolve()) if source != "starter" and Path(source).exists() else source


def check(source: str, root: Path, contexts: str | None = None) -> None:
    """Raise at once what would stop a build before its first paper; call it before loading an encoder.

    Raises UserError for a source or contexts that are not there or not readable, and an unwritable or
    busy `root`.
    """
    if contexts is not None:
        read_queries(contexts)
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
    progress: Progress = silent,
    shard: int = SHARD,
    engine: Engine | None = None,
    shards: str | None = None,
    with_map: bool = False,
    contexts: str | None = None,
    kind: Kind = "auto",
) -> tuple[Generation, Reading]:
    """Build an index of `source` (see data.corpus.read) at `root` and publish it.

    What an unfinished build of the same source left is reused: the papers if the source is unchanged,
    and every shard of `shard` papers whose texts and encoder are the same. The shards lie in the staging
    folder, or at the URL `shards`, where they stay. `engine` encodes them; by default this process does.
    With `with_map` the map of the papers is drawn, too (see indexer.atlas).
    `contexts` is a file of known citations (see data.contexts.read_queries) that the index is to know.
    `kind` is how the vectors will be searched: see indexer.kinds.
    The index that is being served, if any, is untouched until the new one is whole.

    Raises UserError for an unreadable source, a corpus with too many rejects, an unwritable or
    busy `root`, and a disk that cannot hold the index, before anything is encoded.
    """
    began = time.monotonic()
    keep = keep or Filter()
    engine = engine or Local()
    source = resolved(source)
    store = Store(root)
    with store.writing():
        try:
            papers, reading = _read(store, source, keep, max_rejects, progress)
            known, told = _known(contexts, papers)
            here = None if shards else store.staging / "shards"
            card = gpu.card_of("cpu" if encoder.device == "cpu" else "auto")
            table = store.staging / "papers.arrow"
            expected = kinds.chosen(kind, len(papers), encoder.dimension, card)
            need = room.needed(table, papers, encoder.dimension, here, expected, len(known))
            room.check(store.staging, need, "free space or choose another --index")
            folder = Folder(shards or str(here))
            names = encode_missing(papers, encoder, engine, folder, shard, progress)
            _fill(store.next, table, folder, names, encoder, progress)
            if with_map:
                atlas.draw(store.next, progress)
            _fill_evidence(store, known, source, encoder, progress)
            keep_rejects(store.next, reading)
            how = kinds.write(store.next, kind, card, lambda: kinds.sample_queries(papers, encoder), progress)
            manifest = Manifest(
                papers=len(papers),
                dimension=encoder.dimension,
                metric=METRIC,
                encoder=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
                precision=engine.precision(encoder),
                text_form=TEXT_FORM,
                source=source,
                kept=asdict(keep),
                corpus_hash=file_digest(table),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - began, 1),
                reading=reading.as_dict() | told,
                vectors=how,
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
            if done["plan"] == plan and done["sha256"] == file_digest(table):
                return PaperTable(table), Reading(**done["reading"])
        except (ValueError, KeyError, TypeError):
            pass  # cut short by the kill: read again
    reading = read_into(table, source, keep, max_rejects, progress)
    content = {"plan": plan, "sha256": file_digest(table), "reading": vars(reading)}
    write_atomically(record, json.dumps(content).encode())
    return PaperTable(table), reading


def read_into(table: Path, source: str, keep: Filter, max_rejects: float, progress: Progress) -> Reading:
    """The source's papers as a table at the path `table`; see data.corpus.write."""
    size = corpus.size(source)
    unit = "B" if size else " papers"
    return corpus.write(
        source, table, keep, max_rejects, lambda seen, _: progress("reading", seen, size, unit)
    )


def keep_rejects(folder: Path, reading: Reading) -> None:
    """Leave the first rejected records, if any, in the folder of a generation to come."""
    if reading.rejects:
        (folder / REJECTS).write_text("\n".join(reading.rejects) + "\n", encoding="utf-8")


def _fill(
    target: Path, table: Path, folder: Folder, shards: list[str], encoder: Encoder, progress: Progress
) -> None:
    """The files of the generation to come."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shutil.copyfile(table, target / "papers.arrow")
    papers = PaperTable(table)
    authors.write(target, papers)

    def blocks() -> Iterator[Vectors]:
        for number, shard in enumerate(shards, 1):
            yield folder.vectors(shard)
            progress("vectors", number, len(shards), " shards")

    def texts() -> Iterator[list[str]]:
        for start in range(0, len(papers), SHARD):
            members: list[Paper] = papers.slice(start, start + SHARD)
            yield [lexical.text_of(paper) for paper in members]
            progress("words", start + len(members), len(papers), " papers")

    vectors.write(target / "vectors.faiss", encoder.dimension, blocks())
    lexical.write(target / "words", texts())


def _known(source: str | None, papers: PaperTable) -> tuple[list[Citation], dict[str, Any]]:
    """The citations of a contexts file, and what the manifest says of them."""
    if source is None:
        return [], {}
    found, reading = evidence.read(source)
    here = papers.rows_of([citation.cited_id for citation in found]) >= 0
    known = [citation for citation, kept in zip(found, here.tolist(), strict=True) if kept]
    facts = {"source": resolved(source), "citations": len(known), "of_other_papers": len(found) - len(known)}
    return known, {"contexts": facts | {"rejected": reading.rejected}}


def _fill_evidence(
    store: Store, known: list[Citation], source: str, encoder: Encoder, progress: Progress
) -> None:
    """The known citations of the generation to come; those that ship for the starter corpus."""
    if known:
        encoded = evidence.encoded(known, encoder, store.staging / "contexts", progress)
        evidence.write(store.next / EVIDENCE, evidence.known(known, encoded))
    elif source == "starter":
        shipped = starter_evidence.load(encoder.fingerprint)
        if shipped:
            evidence.write(store.next / EVIDENCE, shipped)


def file_digest(path: Path) -> str:
    """A digest (hex, 96 bits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:24]
