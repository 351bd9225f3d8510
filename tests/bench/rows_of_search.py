"""The rows about search: one engine over so many vectors, in a process of its own."""

import shutil
from pathlib import Path

import corpus_of_vectors
from corpus_of_vectors import NOISE as NOISE
from engines_of_vectors import ENGINES, GRAPHS
from measure import K, Row, memory, one_by_one, recall, timed

TIMED = 200  # queries, one by one and then together
GRAPHS_UP_TO = 500_000  # vectors: above, a graph takes an hour or more to build
TOGETHER = ("numpy", "faiss flat", "ours, exact", "ours, lists")  # take many queries at once


def engines(size: int) -> list[str]:
    return [name for name in ENGINES if size <= GRAPHS_UP_TO or name not in GRAPHS]


def search(index: Path, work: Path, size: int, name: str) -> Row:
    """What one engine takes for single queries and for many together, with its recall."""
    stored = corpus_of_vectors.written(index, work, size)
    asked = corpus_of_vectors.queries(index, work)
    exact = corpus_of_vectors.exact(stored, asked, work, K)
    half = len(asked) // 2
    tuned, timed_ = asked[:half], asked[half:][:TIMED]
    folder = work / "engine"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    find, row = ENGINES[name](stored, folder, tuned, exact[:half])
    singly, rows = one_by_one(find, timed_)
    row = row | singly | memory()
    row |= {"recall": recall(rows, exact[half:][:TIMED]), "vectors": size, "engine": name}
    if name in TOGETHER:
        row["queries_s"] = len(timed_) / timed(lambda: find(timed_))[0]
    shutil.rmtree(folder)
    return row
