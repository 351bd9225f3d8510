"""Whether the disk can hold an index, asked before hours are spent on its vectors."""

import shutil
from pathlib import Path

from data.errors import UserError
from data.table import BATCH, PaperTable
from indexer import lexical

HALF = 2  # bytes of a stored number, in the shards and in the FAISS index
ID = 24  # bytes of a paper's id in a shard, about
CONTEXT = 1000  # bytes of a context and its words, about
SAMPLED = 8  # batches whose words are counted


def needed(table: Path, papers: PaperTable, dimension: int, shards: Path | None, citations: int = 0) -> int:
    """Bytes that a build still writes at its peak, once it has the file of its papers, `table`.

    The vectors come twice, as shards and in the FAISS index. `shards` is their folder, of which what is
    there is not counted; None if it is elsewhere. The contexts of the `citations` to be known come twice.
    """
    vectors = HALF * dimension * len(papers)
    missing = 0
    if shards:
        there = sum(file.stat().st_size for file in shards.glob("*.parquet"))
        missing = max(0, vectors + ID * len(papers) - there)
    contexts = citations * (2 * HALF * dimension + CONTEXT)
    return table.stat().st_size + vectors + missing + _words(papers) + contexts


def _words(papers: PaperTable) -> int:
    step = max(1, -(-len(papers) // BATCH) // SAMPLED) * BATCH
    starts = range(0, len(papers), step)
    sample = [lexical.text_of(p) for start in starts for p in papers.slice(start, start + BATCH)]
    return lexical.needed(sample) * len(papers) // len(sample)


def check(folder: Path, papers: PaperTable, dimension: int, shards: Path | None, citations: int = 0) -> None:
    """Raise UserError where the disk of the staging folder has less room than the build needs."""
    need = needed(folder / "papers.arrow", papers, dimension, shards, citations)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise UserError(
            f"{folder.parent}: the index needs about {_size(need)} more and its disk has {_size(free)} free; "
            "free space or choose another --index and run the same command again"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
