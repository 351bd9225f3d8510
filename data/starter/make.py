"""Makes `papers/facts.parquet` from a larger corpus: `python -m data.starter.make CORPUS.parquet`.

The landmark papers (`papers/landmarks.jsonl`) are written by hand and only checked here: a paper that
the larger corpus has under the same id must have the same title there. The rest of the starter corpus
are bibliographic facts (id, title, authors, year, categories) of papers of the larger corpus, without
their abstracts; a paper that is a landmark under another id is left out.
"""

import hashlib
import re
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.corpus import Reading, read
from data.paper import Paper, to_batch

HERE = Path(__file__).parent / "papers"
SIZE = 12_000
FIELDS = ("cs.CL", "cs.CV", "cs.LG", "cs.IR", "cs.SD", "cs.NE", "cs.AI", "stat.ML", "eess.AS", "ACL")


def title_key(title: str) -> str:
    """A title without case, spaces and punctuation, for telling whether two are the same."""
    return re.sub(r"[^a-z0-9]+", "", title.lower())


def main(source: str) -> None:
    """Choose the facts, write them and report how the landmarks agree with the source."""
    landmarks = list(read(str(HERE / "landmarks.jsonl"), Reading()))
    corpus = {paper.paper_id: paper for paper in read(source, Reading())}
    report(landmarks, corpus)
    taken = {title_key(paper.title) for paper in landmarks} | {paper.paper_id for paper in landmarks}
    chosen = [paper for paper in corpus.values() if wanted(paper) and title_key(paper.title) not in taken]
    chosen = [paper for paper in chosen if paper.paper_id not in taken]
    chosen.sort(key=lambda paper: hashlib.sha256(paper.paper_id.encode()).digest())
    chosen = sorted(chosen[: SIZE - len(landmarks)], key=lambda paper: paper.paper_id)
    table = pa.Table.from_batches([to_batch(chosen)]).drop_columns(["abstract", "venue", "doi", "version"])
    pq.write_table(table, HERE / "facts.parquet", compression="zstd", write_page_checksum=True)
    print(f"{len(landmarks):,} landmarks and {len(chosen):,} facts, {len(landmarks) + len(chosen):,} papers")


def wanted(paper: Paper) -> bool:
    """Whether a paper belongs to the fields of the starter corpus and can be linked to."""
    scheme = paper.paper_id.partition(":")[0]
    return bool(
        scheme in ("arxiv", "acl") and paper.year and paper.url and set(paper.categories) & set(FIELDS)
    )


def report(landmarks: list[Paper], corpus: dict[str, Paper]) -> None:
    """Print how many landmarks the corpus has, and each that it has under another title."""
    found = [paper for paper in landmarks if paper.paper_id in corpus]
    agree = 0
    for paper in found:
        other = corpus[paper.paper_id].title
        ours, theirs = title_key(paper.title), title_key(other)
        if ours == theirs:
            agree += 1
        else:
            similar = SequenceMatcher(None, ours, theirs).ratio()
            print(f"{paper.paper_id}: {paper.title!r} here, {other!r} there (similarity {similar:.2f})")
    print(
        f"of {len(landmarks):,} landmarks the corpus has {len(found):,} by id, {agree:,} with the same title"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
