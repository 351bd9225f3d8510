"""An index brought up to date: what is new is encoded, all else is copied from the current generation.

An update writes a whole new generation and publishes it as a build does, so that readers see the old
one or the new one. Copying is cheap beside encoding: of 100,000 papers it takes seconds, and nothing is
left to be compacted later. The answers are those of an index that was built anew.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from data.contexts import Citation
from data.corpus import Reading
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable, PaperWriter, write_rows
from indexer import atlas, authors, evidence, gpu, kinds, lexical, nearest, room, vectors
from indexer.build import file_digest, keep_rejects, read_into, resolved, silent
from indexer.evidence import Evidence, Known
from indexer.kinds import Kind
from indexer.shards import SHARD, Engine, Folder, Local, Progress, encode_missing
from indexer.snapshot import EVIDENCE
from indexer.store import Generation, Manifest, Store, must_fit
from indexer.vectors import Rows, VectorIndex
from model.encoder import FASTEST, OPENVINO, Encoder, Vectors
from model.text import TEXT_FORM, passage_text

CHUNK = 4096  # papers that are compared together


@dataclass(frozen=True)
class Change:
    """What is asked of an index.

    `source` (see data.corpus.read) holds papers that are new or changed; if `whole`, all papers, so that
    those of the index that are not in it are withdrawn. `remove` are ids to withdraw. The filter that
    the index was built with is applied: a paper that no longer passes it is withdrawn. `contexts` is a file
    of citations to know besides those that are known (see data.contexts.read_queries).
    """

    source: str | None = None
    whole: bool = False
    remove: tuple[str, ...] = ()
    contexts: str | None = None


@dataclass(frozen=True)
class Counts:
    """What became of the papers: of the index before, `unchanged + changed + withdrawn` are all.

    `encoded` are those with a new text. `older` records of the source had a lower version than the
    index has, so its own stayed; `unknown` ids to withdraw are not in the index.
    `citations` are newly known.
    """

    added: int
    changed: int
    withdrawn: int
    unchanged: int
    encoded: int
    older: int
    unknown: int
    citations: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.withdrawn or self.citations)


@dataclass(frozen=True)
class Plan:
    """Where the rows of the new generation come from: the old one's row, or beyond them the source's.

    `texts` tells it of what is encoded and searched by words, `records` of the rest: a paper whose
    authors alone changed has a new record and its old text.
    """

    records: Rows
    texts: Rows
    counts: Counts


def update(
    root: Path,
    change: Change,
    encoder: Encoder | None = None,
    max_rejects: float = 0.05,
    progress: Progress = silent,
    device: str = "auto",
    shard: int = SHARD,
    engine: Engine | None = None,
) -> tuple[Generation, Counts, Reading]:
    """Apply a change to the index at `root` and publish it; nothing is published where nothing changed.

    The index's own encoder is loaded on `device` if there is something to encode; another one may be
    given and is refused if its fingerprint differs. Papers keep their places, new ones go to the end.
    An update that was killed goes on from its finished shards.

    Raises UserError for an index or a source that cannot be read, too many rejects, another encoder,
    a busy or unwritable `root`, and a change that leaves no paper.
    """
    began = time.monotonic()
    engine = engine or Local()
    store = Store(root)
    if store.current() is None:
        store.open()  # says how to build one
    with store.writing():
        try:
            current = store.open()
            if encoder:
                must_fit(current, root, encoder.fingerprint, encoder.name, TEXT_FORM)
            papers = PaperTable(current.path / "papers.arrow")
            delta, reading = _read(store.staging / "update.arrow", change, max_rejects, progress)
            plan = _plan(papers, delta, change, Filter.of(current.manifest.kept))
            known, citations = _citations(change.contexts, current, papers, delta, plan)
            plan = replace(plan, counts=replace(plan.counts, citations=len(citations)))
            if not plan.counts:
                return current, plan.counts, reading
            if not len(plan.records):
                raise UserError(f"{root}: the update withdraws every paper; remove the folder instead")
            new = plan.texts[plan.texts >= len(papers)] - len(papers)
            fresh = _written(store.staging / "fresh.arrow", delta, new)
            facts = current.manifest.vectors
            kind: Kind = facts.get("asked", "auto")
            card = gpu.card_of(device)
            expected = kinds.chosen(kind, len(plan.records), current.manifest.dimension, card)
            need = room.needed_by_update(current, delta, fresh, plan.records, expected, len(citations))
            room.check(store.staging, need, "free space")
            blocks: Iterable[Vectors] = ()
            precision = ""
            if len(fresh):
                way = FASTEST if OPENVINO in current.manifest.precision else "auto"  # as it was built
                encoder = encoder or Encoder(current.manifest.encoder, device, way)
                must_fit(current, root, encoder.fingerprint, encoder.name, TEXT_FORM)
                folder = Folder(str(store.staging / "shards"))
                precision = engine.precision(encoder)
                blocks = map(folder.vectors, encode_missing(fresh, encoder, engine, folder, shard, progress))
            _fill(store.next, current, (papers, delta, fresh), blocks, plan, progress)
            if current.manifest.mapped:
                atlas.draw(store.next, progress, current.path)
            if citations:
                encoder = encoder or Encoder(current.manifest.encoder, device)
                must_fit(current, root, encoder.fingerprint, encoder.name, TEXT_FORM)
                encoded = evidence.encoded(citations, encoder, store.staging / "contexts", progress)
                evidence.write(store.next / EVIDENCE, evidence.merged(known, citations, encoded))
            elif (current.path / EVIDENCE).is_dir():
                shutil.copytree(current.path / EVIDENCE, store.next / EVIDENCE)
            sample = partial(_queries, current, encoder, PaperTable(store.next / "papers.arrow"))
            how = kinds.write(store.next, kind, card, sample, progress, current.path)
            keep_rejects(store.next, reading)
            manifest = replace(
                _manifest(current.manifest, change, plan.counts, reading),
                precision=_precisions(current.manifest, precision),
                papers=len(plan.records),
                vectors=how,
                corpus_hash=file_digest(store.next / "papers.arrow"),
                seconds=round(time.monotonic() - began, 1),
            )
            return store.publish(manifest), plan.counts, reading
        except OSError as error:
            raise UserError(
                f"{root}: the index cannot be written ({error.strerror or error}); free space and run "
                "the same command again, finished shards are kept"
            ) from error


def _read(path: Path, change: Change, max_rejects: float, progress: Progress) -> tuple[PaperTable, Reading]:
    """The papers of the source, each id once, as a table; the index's own filter comes later."""
    if change.source is None:
        with PaperWriter(path):  # a table of no papers
            pass
        return PaperTable(path), Reading()
    reading = read_into(path, change.source, Filter(), max_rejects, progress)
    return PaperTable(path), reading


def _citations(
    source: str | None, current: Generation, papers: PaperTable, delta: PaperTable, plan: Plan
) -> tuple[Known | None, list[Citation]]:
    """What the generation knows, and the source's citations that it does not, of papers that it will have.

    Without a source neither is looked at: what is known is copied as it lies.
    """
    if source is None:
        return None, []
    found, _ = evidence.read(source)
    ids = [*papers.ids(), *delta.ids()]  # as the plan counts its records
    there = {ids[row] for row in plan.records.tolist()}
    folder = current.path / EVIDENCE
    known = Evidence(folder, papers).known() if folder.is_dir() else None
    before = set(known.citations) if known else set()
    return known, [citation for citation in found if citation not in before and citation.cited_id in there]


def _written(path: Path, delta: PaperTable, rows: Rows) -> PaperTable:
    """A table of these rows."""
    with PaperWriter(path) as writer:
        for start in range(0, len(rows), CHUNK):
            for paper in delta.take(rows[start : start + CHUNK].tolist()):
                writer.add(paper)
    return PaperTable(path)


def _plan(papers: PaperTable, delta: PaperTable, change: Change, keep: Filter) -> Plan:
    count = len(papers)
    records = np.full(count, -1) if change.whole else np.arange(count)
    texts = np.arange(count)
    rows = papers.rows_of(delta.ids())
    gone = set(change.remove)
    added, older = [], 0
    for start in range(0, len(delta), CHUNK):
        chunk = rows[start : start + CHUNK]
        before = iter(papers.take(chunk[chunk >= 0].tolist()))
        for place, paper in enumerate(delta.slice(start, start + CHUNK), start):
            row = int(rows[place])
            old = next(before) if row >= 0 else None
            if paper.paper_id in gone:
                continue
            if old and paper.version < old.version and not change.whole:
                older += 1
            elif not keep.keeps(paper):
                if old:
                    records[row] = -1
            elif old is None:
                added.append(count + place)
            elif paper == old:
                records[row] = row
            else:
                records[row] = count + place
                if _read_alike(paper) != _read_alike(old):
                    texts[row] = count + place
    named = papers.rows_of(change.remove)
    records[named[named >= 0]] = -1
    stays = records >= 0
    new = np.array(added, np.int64)
    every = np.concatenate([texts[stays], new])
    changed = int((records >= count).sum())
    counts = Counts(
        added=len(new),
        changed=changed,
        withdrawn=int((~stays).sum()),
        unchanged=int(stays.sum()) - changed,
        encoded=int((every >= count).sum()),
        older=older,
        unknown=int((named < 0).sum()),
    )
    return Plan(np.concatenate([records[stays], new]), every, counts)


def _read_alike(paper: Paper) -> tuple[str, str]:
    """What the encoder and BM25 read of a paper: its vector and postings stay where this stays."""
    return passage_text(paper), lexical.text_of(paper)


def _fill(
    folder: Path,
    current: Generation,
    tables: tuple[PaperTable, PaperTable, PaperTable],
    blocks: Iterable[Vectors],
    plan: Plan,
    progress: Progress,
) -> None:
    """The files of the generation to come. The tables are the old papers, the source's, the new texts'."""
    papers, delta, fresh = tables
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    count = len(plan.records)
    with _stage(progress, "papers", count):
        write_rows(folder / "papers.arrow", papers, delta, plan.records)
        authors.write(folder, PaperTable(folder / "papers.arrow"))
    with _stage(progress, "vectors", count):
        stored = VectorIndex(current.path / "vectors.faiss")
        vectors.write(folder / "vectors.faiss", stored.dimension, _merged(stored, blocks, plan.texts))
    with _stage(progress, "words", count):
        words = current.path / "words"
        if lexical.is_updatable(words):
            lexical.update(folder / "words", words, plan.texts, _texts(fresh))
        else:
            lexical.write(folder / "words", _texts(PaperTable(folder / "papers.arrow")))


@contextmanager
def _stage(progress: Progress, name: str, count: int) -> Iterator[None]:
    progress(name, 0, count, " papers")
    yield
    progress(name, count, count, " papers")


def _texts(papers: PaperTable) -> Iterator[list[str]]:
    for start in range(0, len(papers), SHARD):
        yield [lexical.text_of(paper) for paper in papers.slice(start, start + SHARD)]


def _merged(stored: VectorIndex, blocks: Iterable[Vectors], origin: Rows) -> Iterator[Vectors]:
    """The vectors of the new rows: those of the index, and where it has none the next of the blocks."""
    fresh = np.concatenate(
        [np.zeros((0, stored.dimension), np.float16), *(block.astype(np.float16) for block in blocks)]
    )
    drawn = 0
    for start in range(0, len(origin), CHUNK):
        part = origin[start : start + CHUNK]
        new = part >= len(stored)
        block = np.empty((len(part), stored.dimension), np.float32)
        block[~new] = stored.stored(part[~new])
        block[new] = fresh[drawn : drawn + int(new.sum())]
        drawn += int(new.sum())
        yield block


def _queries(current: Generation, encoder: Encoder | None, papers: PaperTable) -> Vectors | None:
    """What measures the recall: what measured it before, or what an encoder at hand makes of the papers."""
    if (current.path / kinds.FOLDER).exists():
        return nearest.queries_of(current.path / kinds.FOLDER)
    return kinds.sample_queries(papers, encoder) if encoder else None


def _manifest(old: Manifest, change: Change, counts: Counts, reading: Reading) -> Manifest:
    """The old manifest with what the update says; the papers and the files are still those of the old."""
    source = resolved(change.source) if change.source else ""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if change.whole:
        return replace(old, source=source, created=created, reading=reading.as_dict())
    made = {"source": source, "created": created, **asdict(counts), "reading": reading.as_dict()}
    others = [update for update in old.updates if update["source"] != source]
    return replace(old, created=created, reading=old.reading | {"updates": [*others, made]})


def _precisions(old: Manifest, now: str) -> str:
    """How the vectors were computed, this time included."""
    return ", ".join(dict.fromkeys([*old.precision.split(", "), *filter(None, [now])]))
