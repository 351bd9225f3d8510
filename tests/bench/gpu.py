"""Search and encoding on a GPU: exact 16-bit vectors and codes, one by one and in batches, papers a second.

    python tests/bench/gpu.py --size 3000000        # make bench-gpu

Where faiss or torch sees no GPU it says so and is done. Nothing here has run on a GPU yet.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import corpus_of_vectors
import numpy as np
from measure import K, one_by_one, recall, timed

ROOT = Path(__file__).parents[2]
TOGETHER = 4096
PAPERS = 20_000


def why_not() -> str:
    """Why nothing can be measured here, or nothing."""
    import faiss
    import torch

    if not getattr(faiss, "get_num_gpus", int)():
        return "faiss sees no GPU (is it the gpu extra?)"
    return "" if torch.cuda.is_available() else "torch sees no GPU"


def search(papers: Path, work: Path, size: int) -> None:
    """Exact vectors, then codes, as if the card were too small for the vectors."""
    from indexer import gpu, kinds, vectors

    stored, queries = corpus_of_vectors.written(papers, work, size), corpus_of_vectors.queries(papers, work)
    exact = corpus_of_vectors.exact(stored, queries, work, K)
    folder = work / "gpu"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    blocks = (stored[start : start + (1 << 16)] for start in range(0, size, 1 << 16))
    vectors.write(folder / "vectors.faiss", stored.shape[1], blocks)
    facts = kinds.write(folder, "lists", None, lambda: queries[::2], lambda *_: None)
    card = gpu.card_of("cuda")
    assert card
    many = np.resize(queries, (TOGETHER, queries.shape[1]))
    for free in (card.free, min(card.free, stored.nbytes)):
        opening, index = timed(lambda free=free: kinds.opened(folder, facts, replace(card, free=free)))
        singly, rows = one_by_one(lambda query, index=index: index.search(query, K)[1], queries[1::2])
        seconds, _ = timed(lambda index=index: index.search(many, K))
        print(
            f"{type(index).__name__}: {size:,} vectors, opened in {opening:.0f} s, k = {K}: p50 "
            f"{singly['p50_ms']:.2f} ms, p99 {singly['p99_ms']:.2f} ms, {TOGETHER / seconds:,.0f} "
            f"queries/s in batches of {TOGETHER}, recall {recall(rows, exact[1::2]):.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=3_000_000)
    parser.add_argument("--index", type=Path, default=ROOT / "citemark-index")
    parser.add_argument("--work", type=Path, default=ROOT / "bench-work")
    asked = parser.parse_args()
    if reason := why_not():
        print(f"bench-gpu SKIPPED: {reason}")
        return
    from data.table import PaperTable
    from indexer.store import Store
    from model.encoder import Encoder

    asked.work.mkdir(exist_ok=True)
    search(asked.index, asked.work, asked.size)
    papers = PaperTable(Store(asked.index).open().path / "papers.arrow").slice(0, PAPERS)
    encoder = Encoder("citemark", "cuda")
    encoder.encode_papers(papers[:512])
    seconds, _ = timed(lambda: encoder.encode_papers(papers))
    print(f"encoding: {len(papers) / seconds:,.0f} papers/s, {encoder.precision}")


if __name__ == "__main__":
    main()
