"""Search and encoding on a GPU: exact 16-bit vectors one by one and in batches, papers a second.

    python tests/bench/gpu.py --size 3000000        # make bench-gpu

Where faiss or torch sees no GPU it says so and is done. Nothing here has run on a GPU yet.
"""

import argparse
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
    from indexer import gpu, vectors
    from indexer.store import Store
    from model.encoder import Encoder

    asked.work.mkdir(exist_ok=True)
    stored = corpus_of_vectors.written(asked.index, asked.work, asked.size)
    queries = corpus_of_vectors.queries(asked.index, asked.work)
    path = asked.work / "vectors.faiss"
    blocks = (stored[start : start + (1 << 16)] for start in range(0, len(stored), 1 << 16))
    vectors.write(path, stored.shape[1], blocks)
    card = gpu.card_of("cuda")
    index = card and gpu.exactly(vectors.VectorIndex(path), card)
    if index is None:
        print(f"bench-gpu SKIPPED: {asked.size:,} vectors do not fit the GPU's memory")
        return
    singly, rows = one_by_one(lambda query: index.search(query, K)[1], queries)
    many = np.resize(queries, (TOGETHER, queries.shape[1]))
    seconds, _ = timed(lambda: index.search(many, K))
    found = recall(rows, corpus_of_vectors.exact(stored, queries, asked.work, K))
    print(
        f"{asked.size:,} vectors, k = {K}: p50 {singly['p50_ms']:.2f} ms, p99 {singly['p99_ms']:.2f} ms, "
        f"{TOGETHER / seconds:,.0f} queries/s in batches of {TOGETHER}, recall {found:.4f}"
    )
    papers = PaperTable(Store(asked.index).open().path / "papers.arrow").slice(0, PAPERS)
    encoder = Encoder("citemark", "cuda")
    encoder.encode_papers(papers[:512])
    seconds, _ = timed(lambda: encoder.encode_papers(papers))
    print(f"encoding: {len(papers) / seconds:,.0f} papers/s, {encoder.precision}")


if __name__ == "__main__":
    main()
