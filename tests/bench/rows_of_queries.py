"""The rows about whole queries: a sentence in, papers out, over an index of so many papers.

The index is a real one, built by `indexer.build` of copies of an index's papers under other ids; only its
vectors do not come from the encoder, which would take days, but are those of corpus_of_vectors. It is built
once and kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import corpus_of_vectors
import numpy as np
import orjson
from measure import Row, memory, timed

from data.contexts import CITE, Context
from data.table import PaperTable
from indexer.build import build
from indexer.kinds import sentences
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.shards import Folder, Slice, packed
from indexer.store import Store
from model.encoder import Encoder

RANKINGS = ("dense", "hybrid", "best")
QUERIES = 60  # sentences that are asked one by one, after a few that are not timed


class Given:
    """An engine whose vectors are there already."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def precision(self, encoder: Encoder) -> str:
        return "none: vectors with noise"

    def encode(
        self,
        papers: PaperTable,
        missing: Sequence[Slice],
        encoder: Encoder,
        folder: Folder,
        told: Callable[[int], None],
    ) -> Iterator[tuple[Slice, str]]:
        for shard in missing:
            ids = [paper.paper_id for paper in papers.slice(shard.start, shard.stop)]
            yield shard, folder.write(shard.key, packed(ids, self.vectors[shard.start : shard.stop]))


def built(index: Path, work: Path, size: int) -> Path:
    """The index over `size` papers."""
    root = work / f"index-{size}"
    if Store(root).current() is None:
        vectors = corpus_of_vectors.written(index, work, size)
        papers = PaperTable(Store(index).open().path / "papers.arrow")
        source = work / "copies.jsonl"
        with source.open("wb") as file:
            for number in range(size):
                copy, place = divmod(number, len(papers))
                if place % 256 == 0:
                    block = [asdict(paper) for paper in papers.slice(place, place + 256)]
                record = block[place % 256]
                file.write(orjson.dumps(record | {"paper_id": f"{copy}:{record['paper_id']}"}) + b"\n")
        build(str(source), root, Encoder("citemark", "cpu"), engine=Given(vectors))
        source.unlink()
    return root


def query(index: Path, work: Path, size: int, ranking: str) -> Row:
    """What a Searcher takes for single sentences, encoding included."""
    root = built(index, work, size)
    papers = PaperTable(Store(root).open().path / "papers.arrow")
    asked = [Context(f"{text} {CITE}") for text in sentences(papers, QUERIES)]
    searcher = Searcher(Settings(index=root))
    for context in asked[:5]:
        searcher.search([context], 10, ranking)
    seconds = [timed(lambda context=context: searcher.search([context], 10, ranking))[0] for context in asked]
    size_on_disk = sum(file.stat().st_size for file in searcher.snapshot.path.rglob("*") if file.is_file())
    return {
        "papers": size,
        "ranking": ranking,
        "p50_ms": 1e3 * np.median(seconds),
        "p99_ms": 1e3 * np.quantile(seconds, 0.99),
        "bytes_a_paper": size_on_disk / size,
        "vectors": searcher.snapshot.manifest.vectors,
    } | memory()
