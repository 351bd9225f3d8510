"""The searches that the bench compares, each as open(vectors, folder, queries, exact) -> search.

An engine that is approximate raises its effort until it finds LEAST of the exact answers to the queries
it is given, which are not those that are timed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import K, Row, Rows, Vectors, recall, timed

LEAST = 0.99
EFFORTS = (100, 200, 400, 800, 1600, 3200, 6400)
Search = Callable[[Vectors], Rows]
Opened = tuple[Search, Row]
Engine = Callable[[np.ndarray, Path, Vectors, Rows], Opened]


def numpy(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
    full = stored.astype(np.float32)

    def search(queries: Vectors) -> Rows:
        found = []
        for start in range(0, len(queries), 16):  # all at once would take their scores' memory twice
            scores = queries[start : start + 16] @ full.T
            best = np.argpartition(-scores, K, axis=1)[:, :K]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
            found.append(np.take_along_axis(best, order, axis=1))
        return np.concatenate(found)

    return search, {}


def semantic_search(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
    import torch
    from sentence_transformers import util

    full = torch.from_numpy(stored.astype(np.float32))

    def search(query: Vectors) -> Rows:
        hits = util.semantic_search(torch.from_numpy(query), full, top_k=K)
        return np.array([[hit["corpus_id"] for hit in found] for found in hits])

    return search, {}


def faiss_flat(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
    import faiss

    index = faiss.IndexFlatIP(stored.shape[1])
    seconds, _ = timed(lambda: [index.add(part.astype(np.float32)) for part in _parts(stored)])
    return lambda query: index.search(query, K)[1], {"build_s": seconds}


def ours(kind: str) -> Engine:
    def opened(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
        from indexer import kinds, vectors

        path, facts = folder / "vectors.faiss", {}
        seconds, _ = timed(lambda: vectors.write(path, stored.shape[1], _parts(stored)))
        more, facts = timed(lambda: kinds.write(folder, kind, None, lambda: queries, lambda *_: None))
        index = kinds.opened(folder, facts, None)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return lambda query: index.search(query, K)[1], {
            "build_s": seconds + more,
            "bytes_a_vector": size / len(stored),
            "effort": facts.get("efforts", [None])[0],
        }

    return opened


def hnswlib(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
    import hnswlib as library

    index = library.Index("ip", stored.shape[1])
    index.init_index(len(stored), M=16, ef_construction=100)
    seconds, _ = timed(lambda: [index.add_items(part.astype(np.float32)) for part in _parts(stored)])

    def search(query: Vectors) -> Rows:
        return np.asarray(index.knn_query(query, K, num_threads=1)[0], np.int64)

    return search, {"build_s": seconds, "effort": _raised(search, index.set_ef, queries, exact)}


def usearch(kind: str) -> Engine:
    def opened(stored: np.ndarray, folder: Path, queries: Vectors, exact: Rows) -> Opened:
        from usearch.index import Index

        index = Index(ndim=stored.shape[1], metric="ip", dtype=kind, connectivity=16, expansion_add=100)
        keys = np.arange(len(stored))
        seconds, _ = timed(lambda: index.add(keys, np.asarray(stored, np.float32)))

        def search(query: Vectors) -> Rows:
            return np.asarray(index.search(query[0], K).keys, np.int64)[None]

        def effort(value: int) -> None:
            index.expansion_search = value

        return search, {"build_s": seconds, "effort": _raised(search, effort, queries, exact)}

    return opened


def _raised(search: Search, set_effort: Callable[[int], Any], queries: Vectors, exact: Rows) -> int:
    for effort in EFFORTS:
        set_effort(effort)
        if recall(np.concatenate([search(query[None]) for query in queries]), exact) >= LEAST:
            return effort
    return EFFORTS[-1]


def _parts(stored: np.ndarray) -> Any:
    return (stored[start : start + (1 << 16)] for start in range(0, len(stored), 1 << 16))


ENGINES: dict[str, Engine] = {
    "numpy": numpy,
    "semantic_search": semantic_search,
    "faiss flat": faiss_flat,
    "ours, exact": ours("exact"),
    "ours, lists": ours("lists"),
    "hnswlib": hnswlib,
    "usearch f16": usearch("f16"),
    "usearch i8": usearch("i8"),
}
GRAPHS = ("hnswlib", "usearch f16", "usearch i8")  # which take an hour to build for millions
