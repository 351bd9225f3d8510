"""Vectors of any number for the bench: real ones with noise, and real queries.

Noise of the same size in all directions would lie where no paper does, so it is drawn with the vectors' own
covariance; its length is NOISE times that of the vectors. A copy and its original then have a cosine of .86,
and the nearest neighbours of a paper about that of real papers.
"""

from pathlib import Path

import numpy as np

from data.table import PaperTable
from indexer import kinds, vectors
from indexer.store import Store
from model.encoder import Encoder

NOISE = 0.6
BLOCK = 20_000
QUERIES = 800  # half set an effort, half are timed


def written(index: Path, work: Path, count: int) -> np.ndarray:
    """`count` vectors (count, dimension) of 16-bit floats, mapped from a file that is written once."""
    path = work / f"vectors-{count}.npy"
    if not path.exists():
        generation = Store(index).open()
        real = vectors.VectorIndex(generation.path / "vectors.faiss")
        sample = real.stored(np.arange(0, len(real), max(1, len(real) // BLOCK)))
        values, axes = np.linalg.eigh(np.cov(sample.T))
        shape = (axes * np.sqrt(np.maximum(values, 0) / values.sum())).T.astype(np.float32)
        rng = np.random.default_rng(0)
        out = np.lib.format.open_memmap(work / "unfinished.npy", "w+", np.float16, (count, real.dimension))
        for start in range(0, count, BLOCK):
            rows = rng.integers(len(real), size=min(BLOCK, count - start))
            drawn = rng.standard_normal((len(rows), real.dimension), np.float32) @ shape
            made = real.stored(rows) + NOISE * drawn
            out[start : start + len(rows)] = made / np.linalg.norm(made, axis=1, keepdims=True)
        out.flush()
        (work / "unfinished.npy").rename(path)
    return np.load(path, mmap_mode="r")


def queries(index: Path, work: Path) -> np.ndarray:
    """Queries like a reader's, (QUERIES, dimension)."""
    path = work / f"queries-{QUERIES}.npy"
    if not path.exists():
        generation = Store(index).open()
        papers = PaperTable(generation.path / "papers.arrow")
        np.save(path, kinds.sample_queries(papers, Encoder(generation.manifest.encoder, "cpu"), QUERIES))
    return np.load(path)


def exact(stored: np.ndarray, asked: np.ndarray, work: Path, k: int) -> np.ndarray:
    """The rows of the k greatest inner products of each query: NumPy, block by block."""
    path = work / f"exact-{len(stored)}-{len(asked)}.npy"
    if not path.exists():
        scores, rows = np.zeros((len(asked), 0), np.float32), np.zeros((len(asked), 0), np.int64)
        for start in range(0, len(stored), BLOCK):
            block = asked @ stored[start : start + BLOCK].astype(np.float32).T
            scores = np.concatenate([scores, block], axis=1)
            numbers = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
            rows = np.concatenate([rows, numbers], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
        np.save(path, rows)
    return np.load(path)
