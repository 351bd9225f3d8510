"""Milvus Lite against FAISS on the same vectors: the share of equal papers, and the time of a query.

python tests/bench/engines.py INDEX WORK --papers 10000 --kind hnsw

INDEX is any index; the first so many of its papers become one in the empty folder WORK, are published
to a file of Milvus Lite beside it, and are searched with the starter corpus's contexts. Times are
medians over single queries, of the wall clock and of the processor (both engines run in this process).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.contexts import Context, read_queries
from data.corpus import STARTER
from data.filter import Filter
from data.table import PaperTable, PaperWriter
from indexer import lexical, vectors
from indexer.build import file_digest
from indexer.milvus_address import parse
from indexer.progress import Bars
from indexer.publish import publish
from indexer.ranked import Ranked
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import Store
from model.encoder import Encoder

STEP = 2048


def cut(source: Path, root: Path, papers: int) -> None:
    """An index of the first so many papers of another one, of the same vectors."""
    generation = Store(source).open()
    table = PaperTable(generation.path / "papers.arrow")
    papers = min(papers, len(table))
    old = vectors.VectorIndex(generation.path / "vectors.faiss")
    starts = [(start, min(start + STEP, papers)) for start in range(0, papers, STEP)]
    store = Store(root)
    with store.writing():
        store.next.mkdir()
        with PaperWriter(store.next / "papers.arrow") as writer:
            for start, stop in starts:
                for paper in table.slice(start, stop):
                    writer.add(paper)
        vectors.write(
            store.next / "vectors.faiss",
            old.dimension,
            (old.stored(range(start, stop)) for start, stop in starts),
        )
        texts = ([lexical.text_of(p) for p in table.slice(start, stop)] for start, stop in starts)
        lexical.write(store.next / "words", texts)
        digest = file_digest(store.next / "papers.arrow")
        store.publish(replace(generation.manifest, papers=papers, corpus_hash=digest))


def shared(ours: Ranked, theirs: Ranked) -> float:
    """The share of our papers that are theirs too."""
    found = [
        len(set(a[a >= 0]) & set(b[b >= 0])) / max((a >= 0).sum(), 1)
        for a, b in zip(ours.rows, theirs.rows, strict=True)
    ]
    return float(np.mean(found))


def median(ask: Callable[[Context], object], contexts: Sequence[Context]) -> tuple[float, float]:
    """Milliseconds of one query, on the clock and on the processor."""
    wall, processor = [], []
    for context in contexts:
        began = time.perf_counter(), time.process_time()
        ask(context)
        wall.append(1000 * (time.perf_counter() - began[0]))
        processor.append(1000 * (time.process_time() - began[1]))
    return statistics.median(wall), statistics.median(processor)


def ask(searcher: Searcher, k: int, ranking: str, keep: Filter | None, context: Context) -> None:
    """One query."""
    searcher.rank([context], k, ranking, keep=keep)


class Known(Encoder):
    """The encoder with the contexts' vectors at hand, so that a query's time is the search's alone."""

    def remember(self, contexts: Sequence[Context]) -> None:
        self._known = dict(zip(contexts, super().encode_contexts(contexts), strict=True))

    def encode_contexts(self, contexts: Sequence[Context]) -> np.ndarray:
        return np.stack([self._known[context] for context in contexts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--papers", type=int, default=10_000)
    parser.add_argument("--kind", action="append", default=[])
    parser.add_argument("--queries", type=int, default=100, help="that are compared")
    parser.add_argument("--timed", type=int, default=20, help="of them, one by one")
    asked = parser.parse_args()
    root = asked.work.resolve() / "index"
    if Store(root).current() is None:
        cut(asked.index, root, asked.papers)
    manifest = Store(root).open().manifest
    queries, _ = read_queries(str(STARTER.parent / "contexts.jsonl"))
    contexts = list(dict.fromkeys(query.context for query in queries))[: asked.queries]
    encoder = Known(manifest.encoder, "cpu")
    encoder.remember(contexts)
    here = Searcher(Settings(root, "cpu"), encoder)
    here.snapshot.load()
    cases = (
        ("dense", 10, None),
        ("dense", 300, None),
        ("hybrid", 10, None),
        ("dense", 10, Filter(since=2020)),
        ("dense", 10, Filter(("cs.CL",))),
        ("hybrid", 10, Filter(("cs",), 2015, 2021)),
        ("dense", 10, Filter(authors=("Wang",))),
    )
    for kind in asked.kind or ["flat"]:
        address = parse(f"milvus://{root.parent}/lite.db/{kind.replace('-', '_')}")
        with Bars() as bars:
            done = publish(root, address, kind, bars)
        there = Searcher(Settings(root, "cpu", engine=str(address)), encoder)
        there.snapshot.load()
        print(f"{manifest.papers:,} papers, {kind}: published in {done.seconds:.0f} s")
        print(
            f"{'ranking':8}{'k':>4}  {'filter':44}{'shared':>7}  {'FAISS ms (cpu)':>16}{'Lite ms (cpu)':>18}"
        )
        for ranking, k, keep in cases:
            same = shared(
                here.rank(contexts, k, ranking, keep=keep), there.rank(contexts, k, ranking, keep=keep)
            )
            times = [
                median(partial(ask, searcher, k, ranking, keep), contexts[: asked.timed])
                for searcher in (here, there)
            ]
            cells = "".join(f"{wall:10.1f} ({cpu:6.1f})" for wall, cpu in times)
            print(f"{ranking:8}{k:4}  {keep or 'none'!s:44.44}{same:7.4f}{cells}", flush=True)


if __name__ == "__main__":
    main()
