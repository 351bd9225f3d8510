"""Whether the disk can hold an index, asked before hours are spent on its vectors."""

import shutil
from pathlib import Path

import numpy as np

from data.errors import UserError
from data.table import BATCH, PaperTable
from indexer import lexical
from indexer.kinds import QUERIES
from indexer.nearest import KS
from indexer.overview import storage
from indexer.snapshot import EVIDENCE
from indexer.store import Generation, Manifest
from indexer.vectors import Rows

HALF = 2  # bytes of a stored number, in the shards and in the FAISS index
ID = 24  # bytes of a paper's id in a shard, about
AUTHORS = 20  # bytes of the digests of a paper's authors, about: 18 of 100,000 papers with 3.6 each
CONTEXT = 1000  # bytes of a context and its words, about
LISTED = 16  # bytes of a row in the lists besides its codes, about
ROW = 8  # bytes of a row's number
POSTING = 26  # bytes of a posting while words are written, at most: 16 of them beside the 10 that are kept
MERGED = 18  # bytes of a posting while they are merged
SAMPLED = 8  # batches whose words are counted


def needed(
    table: Path,
    papers: PaperTable,
    dimension: int,
    shards: Path | None,
    kind: str = "exact",
    citations: int = 0,
) -> int:
    """Bytes that a build still writes at its peak, once it has the file of its papers, `table`.

    The vectors come twice, as shards and in the FAISS index. `shards` is their folder, of which what is
    there is not counted; None if it is elsewhere. `kind` is one of indexer.kinds.
    The contexts of the `citations` to be known come twice.
    """
    missing = 0
    if shards:
        there = sum(file.stat().st_size for file in shards.glob("*.parquet"))
        missing = max(0, _shards(len(papers), dimension) - there)
    vectors = _vectors(len(papers), dimension, kind) + AUTHORS * len(papers)
    return table.stat().st_size + vectors + missing + _words(papers) + _contexts(citations, dimension)


def needed_by_update(
    before: Generation, source: PaperTable, fresh: PaperTable, records: Rows, kind: str, citations: int = 0
) -> int:
    """Bytes that an update of the generation `before` still writes at its peak.

    `source` has the papers that the update was given, `fresh` those of them with new texts; `records` is
    the row of each paper to come: of the generation, or beyond its last of the source. `citations` are new.
    """
    manifest = before.manifest
    stay = np.count_nonzero(records < manifest.papers) / manifest.papers
    come = np.count_nonzero(records >= manifest.papers) / max(len(source), 1)
    sizes = storage(manifest)
    table = stay * sizes["records"] + come * source.path.stat().st_size
    old, new = _postings(manifest) * stay, _words(fresh) / POSTING if len(fresh) else 0.0
    merged = max(MERGED * (old + new), (POSTING - 16) * (old + new) + 16 * new)
    anew = POSTING * (old + new)  # an index that lacks the counts has to be read again
    words = merged if lexical.is_updatable(before.path / "words") else anew
    vectors = _vectors(len(records), manifest.dimension, kind) + _shards(len(fresh), manifest.dimension)
    vectors += AUTHORS * len(records)
    known = sum(
        int(file["bytes"]) for name, file in manifest.files.items() if name.startswith(f"{EVIDENCE}/")
    )
    return int(table + words) + vectors + known + _contexts(citations, manifest.dimension)


def _postings(manifest: Manifest) -> float:
    return float(manifest.files["words/indices.csc.index.npy"]["bytes"]) / 4


def _contexts(citations: int, dimension: int) -> int:
    return citations * (2 * HALF * dimension + CONTEXT)


def _vectors(count: int, dimension: int, kind: str) -> int:
    exact = HALF * dimension * count
    if kind != "lists":
        return exact
    queries = min(count, QUERIES)  # are kept, with the rows that answer them
    return (
        exact + (dimension // 4 + LISTED) * count + queries * (HALF * dimension + ROW * min(count, max(KS)))
    )


def _shards(count: int, dimension: int) -> int:
    return (HALF * dimension + ID) * count


def _words(papers: PaperTable) -> int:
    step = max(1, -(-len(papers) // BATCH) // SAMPLED) * BATCH
    starts = range(0, len(papers), step)
    sample = [lexical.text_of(p) for start in starts for p in papers.slice(start, start + BATCH)]
    return lexical.needed(sample) * len(papers) // len(sample)


def check(folder: Path, need: int, remedy: str) -> None:
    """Raise UserError where the disk of the staging folder has less room than `need` bytes."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"{folder.parent}: the index needs about {_size(need)} more and its disk has {_size(free)} free; "
            f"{remedy} and run the same command again"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
