"""The rows about building: encoding papers, an update beside a rebuild, reading a snapshot."""

import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson
import snapshot
from measure import Row, memory, timed

from data.filter import Filter
from data.table import PaperTable
from indexer.store import Store
from model.text import passage_text

WAYS = ("sentence-transformers, fp32", "ours, fp32", "ours, bf16", "ours, fastest")
PAPERS = 256  # encoded by each way, after as many to warm up as a batch has
UPDATED = 2000  # papers of the index that is updated; 1% of them change
LINES = 100_000


def papers_of(index: Path) -> PaperTable:
    return PaperTable(Store(index).open().path / "papers.arrow")


def encode(index: Path, work: Path, way: str) -> Row:
    """Papers a second of one way; its vectors are kept, so that later ways are compared with the first."""
    from model.encoder import Encoder

    table = papers_of(index)
    rows = np.random.default_rng(0).choice(len(table), min(PAPERS, len(table)), replace=False)
    papers = table.take(rows.tolist())
    texts = [passage_text(paper) for paper in papers]
    if way == WAYS[0]:
        model = Encoder("citemark", "cpu", "fp32").model
        model.encode_document(texts[:8])
        seconds, vectors = timed(lambda: model.encode_document(texts, normalize_embeddings=True))
        precision = "fp32"
    else:
        encoder = Encoder("citemark", "cpu", way.removeprefix("ours, "))
        encoder.encode_papers(papers[:8])
        seconds, vectors = timed(lambda: encoder.encode_papers(papers))
        precision = encoder.precision
    kept = work / "encoded.npy"
    if way == WAYS[0]:
        np.save(kept, vectors)
    reference = np.load(kept)
    tokens = sum(len(encoding) for encoding in tokenised(texts))
    return {
        "papers_s": len(papers) / seconds,
        "tokens_a_paper": tokens / len(papers),
        "precision": precision,
        "cosine_with_first": float((reference * vectors).sum(axis=1).mean()),
    }


def tokenised(texts: list[str]) -> list[list[int]]:
    from model.encoder import Encoder

    tokenizer = Encoder("minilm", "cpu", "fp32").model.tokenizer
    return tokenizer(texts, truncation=True, max_length=256)["input_ids"]


def update(index: Path, work: Path) -> Row:
    """The seconds of a build and of an update by 1%, in the same process, encoding included."""
    from indexer.build import build
    from indexer.update import Change
    from indexer.update import update as bring_up_to_date
    from model.encoder import FASTEST, Encoder

    papers = papers_of(index).slice(0, UPDATED)
    lines = [asdict(paper) | {"id": paper.paper_id} for paper in papers]
    (work / "papers.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    changed = [line | {"abstract": f"Changed. {line['abstract']}"} for line in lines[::100]]
    (work / "changed.jsonl").write_bytes(b"\n".join(map(orjson.dumps, changed)))
    root = work / "updated"
    shutil.rmtree(root, ignore_errors=True)
    encoder = Encoder("citemark", "cpu", FASTEST)
    encoder.encode_papers(papers[:8])
    built, _ = timed(lambda: build(str(work / "papers.jsonl"), root, encoder))
    updated, (_, counts, _) = timed(
        lambda: bring_up_to_date(root, Change(str(work / "changed.jsonl")), encoder)
    )
    shutil.rmtree(root)
    return {
        "papers": len(papers),
        "changed": counts.changed,
        "build_s": built,
        "update_s": updated,
        "share": updated / built,
    }


def processor_time() -> float:
    """Seconds of processor so far: of this process, and of those that it started and that have ended."""
    times = os.times()
    return sum(times[:4])


def read(work: Path) -> Row:
    """Lines a second of a snapshot like arXiv's, read, cleaned and written as a table."""
    from data import corpus

    source = work / "snapshot.json"
    if not source.exists():
        source.write_text("".join(snapshot.lines(LINES, bad=0.01)), "utf-8")
    processor = processor_time()
    seconds, reading = timed(lambda: corpus.write(str(source), work / "read.arrow", Filter()))
    processor = processor_time() - processor
    (work / "read.arrow").unlink()
    return {
        "lines_s": reading.read / seconds,
        "lines_s_of_processor": reading.read / processor,
        "lines": reading.read,
    } | memory()
