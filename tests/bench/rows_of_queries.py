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
from measure import K, Row, memory, one_by_one, recall, timed

from data.contexts import CITE, Context
from data.filter import Allowed, Chosen, Filter, Selection
from data.table import PaperTable
from indexer.build import build
from indexer.kinds import sentences
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.shards import Folder, Slice, packed
from indexer.store import Store
from indexer.vectors import VectorIndex
from model.encoder import Encoder

RANKINGS = ("dense", "hybrid", "best")
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)  # that filters by chance allow
FIELDS = {
    "since 2019": Filter(since=2019),
    "until 2008": Filter(until=2008),
    "cs.IR": Filter(categories=("cs.IR",)),
}
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


def filters(index: Path, work: Path, size: int) -> Row:
    """What filters let through, what a search of the vectors takes with them, and its recall."""
    searcher = Searcher(Settings(index=built(index, work, size)))
    papers, source = searcher.snapshot.papers, searcher.snapshot.vectors
    exact = VectorIndex(searcher.snapshot.path / "vectors.faiss")
    asked = corpus_of_vectors.queries(index, work)[::20]
    rng = np.random.default_rng(0)
    allowed: dict[str, Allowed] = {
        f"{share:.2%} by chance": Chosen(rng.random(size) < share) for share in SHARES
    }
    allowed |= {name: Selection(papers, keep) for name, keep in FIELDS.items()}
    found = {}
    for name, keep in allowed.items():
        truth = exact.search(asked, K, keep)[1]
        source.search(asked[:1], K, keep)  # finds the rows of the filter, once for all its searches
        singly, rows = one_by_one(lambda query, keep=keep: source.search(query, K, keep)[1], asked)
        found[name] = singly | {"share": len(keep) / size, "recall": recall(rows, truth)}
    return {"papers": size, "filters": found}
