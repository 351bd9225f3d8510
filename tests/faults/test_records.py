"""Malformed corpora, repeated ids, and vectors that are no vectors."""

import json
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_corpus
from proof import Proof, tries

from data import corpus
from data.contexts import Context
from data.corpus import Filter
from data.errors import UserError
from data.paper import Paper
from data.table import PaperTable
from indexer import vectors
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import Store
from model.encoder import Encoder, Vectors

pytest_plugins = ["proof"]

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**40, 1.5e308, float("nan"), float("inf"), "", " ", "\x00", "\ud800", "\u202e",
    "x" * 200_000, "2020-13-45", "cs.CL " * 9, [], {}, [[]], [None], [{}], {"a": {}}, [["a", None, 3]],
)  # fmt: skip


def arxiv(number: int) -> dict[str, Any]:
    """A record as arXiv's snapshot has it."""
    return {
        "id": f"{number // 1000 + 1:04}.{number % 1000 + 10_000:05}",
        "submitter": "Ada Almeida",
        "authors": "Ada Almeida and Björn Brandt",
        "title": f"Frugal models,\n  part {number}",
        "journal-ref": None,
        "doi": "10.1000/xyz",
        "abstract": "We study \\'etale maps.\n",
        "categories": "cs.CL hep-th",
        "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}],
        "update_date": "2008-11-26",
        "authors_parsed": [["Almeida", "Ada", ""], ["Brandt", "Björn", ""]],
    }


def mutated(number: int, choose: random.Random) -> bytes:
    """A line that went wrong, in one of the ways in which lines do."""
    record = arxiv(number)
    line = json.dumps(record, ensure_ascii=choose.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = choose.randrange(8)
    if kind < 3:
        record[choose.choice(list(record))] = choose.choice(ODD)
        return json.dumps(record).encode()
    if kind == 3:
        del record[choose.choice(list(record))]
        return json.dumps(record).encode()
    place = choose.randrange(len(line))
    if kind == 4:
        return line[:place]
    if kind == 5:
        return line[:place] + bytes(choose.choices(range(256), k=3)) + line[place:]
    if kind == 6:
        return line[:place] + bytes([line[place] ^ 1 << choose.randrange(8)]) + line[place + 1 :]
    return choose.choice((b"[" * 3000, b'"text"', b"17", b"null", b"{}", b"\xff\xfe", b"[1, 2]", line + line))


@pytest.mark.parametrize("count", tries(600, 10_000))
def test_every_bad_line_is_counted_and_told_by_its_number(count: int, tmp_path: Path, proof: Proof) -> None:
    choose = random.Random(17)
    lines = [mutated(number, choose).replace(b"\n", b" ") for number in range(count)]
    source = tmp_path / "corpus.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    filled = sum(not line.isspace() and line != b"" for line in lines)
    reading = corpus.write(str(source), tmp_path / "papers.arrow", Filter(), max_rejects=1)
    assert reading.read == filled
    assert reading.read == reading.accepted + reading.rejected + reading.duplicates + reading.filtered
    assert min(reading.accepted, reading.rejected) > count / 10
    papers = list(PaperTable(tmp_path / "papers.arrow"))
    assert len(papers) == reading.accepted
    bad = {int(m[1]) for r in reading.rejects if (m := re.match(r"line (\d+): \S", r))}
    assert len(bad) == len(reading.rejects) == min(reading.rejected, corpus.LISTED_REJECTS)
    for number, line in enumerate(lines, 1):
        proof.check(
            number not in bad or alone(line, tmp_path) is None, f"line {number} is good: {line[:80]!r}"
        )
    for paper in papers:
        text = "".join((paper.paper_id, paper.title, paper.abstract, *paper.authors, *paper.categories))
        assert paper.title
        assert not {unicodedata.category(sign) for sign in text} & {"Cc", "Cs"}, text
    proof.note = (
        f"{reading.accepted:,} accepted + {reading.rejected:,} rejected + {reading.duplicates:,} twice"
    )
    proof.end("malformed corpus", count)


def alone(line: bytes, folder: Path) -> Paper | None:
    """The paper of a line behind a good one, if it is good, too."""
    path = folder / "two.jsonl"
    path.write_bytes(json.dumps(arxiv(0)).encode() + b"\n" + line + b"\n")
    _, *rest = corpus.read(str(path), corpus.Reading())
    return rest[0] if rest else None


@pytest.mark.parametrize("bad", [0, 3, 5, 6, 50, 99])
def test_a_corpus_fails_above_the_share_of_rejects(bad: int, tmp_path: Path) -> None:
    rows: list[Any] = [{"no": "title"}] * bad + [arxiv(number) for number in range(100 - bad)]
    random.Random(bad).shuffle(rows)
    source = write_corpus(tmp_path / "corpus.jsonl", rows)
    if bad <= 5:
        assert corpus.write(str(source), tmp_path / "papers.arrow", Filter()).rejected == bad
        return
    with pytest.raises(
        UserError, match=rf"{bad} of 100 records are no papers \(the limit is 5%\)"
    ) as refused:
        corpus.write(str(source), tmp_path / "papers.arrow", Filter())
    assert re.search(r"the first: line \d+: no title; mend the source", str(refused.value))


@pytest.mark.parametrize("count", tries(10, 100))
def test_the_highest_version_of_an_id_wins_in_any_order(count: int, tmp_path: Path, proof: Proof) -> None:
    """40 papers in up to five versions each, some versions twice with different words."""
    choose = random.Random(23)
    rows = []
    for number in range(40):
        for version in range(1, choose.randint(2, 6)):
            row = arxiv(number) | {
                "versions": [{"version": "v"}] * version,
                "title": f"{number} as of {version}",
            }
            rows += [row, row | {"abstract": "Otherwise."}] if choose.random() < 0.3 else [row]
    newest = {f"arxiv:{row['id']}": len(row["versions"]) for row in rows}
    for row in rows:
        newest[f"arxiv:{row['id']}"] = max(newest[f"arxiv:{row['id']}"], len(row["versions"]))
    first: set[Paper] = set()
    for number in range(count):
        choose.shuffle(rows)
        source = write_corpus(tmp_path / "corpus.jsonl", rows)
        reading = corpus.write(str(source), tmp_path / "papers.arrow", Filter())
        papers = list(PaperTable(tmp_path / "papers.arrow"))
        first = first or set(papers)
        right = {paper.paper_id: paper.version for paper in papers} == newest and len(papers) == 40
        counted = reading.duplicates == len(rows) - 40
        proof.check(right and counted and set(papers) == first, f"shuffle {number}")
    proof.end("duplicate ids", count)


HARMS: dict[str, Callable[[Vectors, int], None]] = {
    "NaN": lambda v, i: v[i].__setitem__(i % v.shape[1], np.nan),
    "Inf": lambda v, i: v[i].__setitem__(i % v.shape[1], np.inf),
    "-Inf": lambda v, i: v[i].__setitem__(i % v.shape[1], -np.inf),
    "zero": lambda v, i: v[i].fill(0),
}


def harmful(harm: Callable[[Vectors, int], None], place: int) -> Callable[..., Any]:
    """An encoder's method whose answer for the text at this place is no vector."""

    def encode(texts: Sequence[str], **_: Any) -> Vectors:
        made = np.random.default_rng(len(texts)).normal(size=(len(texts), 32)).astype(np.float32)
        harm(made, place % len(texts))
        return made

    return encode


@pytest.mark.parametrize("count", tries(20, 100))
def test_what_is_no_vector_never_gets_in_or_out(
    count: int,
    small_corpus: Path,
    small_index: Path,
    tiny_folder: Path,
    tmp_path: Path,
    proof: Proof,
) -> None:
    """In the papers' vectors, the queries', the blocks of the index, the shards and the index itself."""
    doors = (into_papers, into_a_query, into_the_blocks, into_a_shard, out_of_the_index)
    encoder = Encoder(str(tiny_folder), "cpu", "fp32")
    for number in range(count):
        door, (name, harm) = doors[number % 5], list(HARMS.items())[number % 4]
        said = door(harm, number, encoder, small_corpus, small_index, tmp_path)
        proof.check(said == "", f"{name} {door.__name__}: {said}")
    proof.end("NaN, Inf and zero vectors", count)


def refused(work: Callable[[], object], *words: str) -> str:
    """Nothing where the work is refused with one line of these words; else what happens."""
    try:
        given = work()
    except UserError as error:
        fits = "\n" not in str(error) and all(word in str(error) for word in words)
        return "" if fits else str(error)
    return f"not refused: {given!r}"[:300]


Harm = Callable[[Vectors, int], None]


def into_papers(harm: Harm, place: int, encoder: Encoder, source: Path, index: Path, folder: Path) -> str:
    root = folder / f"index-{place}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder.model, "encode_document", harmful(harm, place))
        said = refused(lambda: build(str(source), root, encoder), "not finite or is zero")
    return said or ("published" if Store(root).current() else "")


def into_a_query(harm: Harm, place: int, encoder: Encoder, source: Path, index: Path, folder: Path) -> str:
    searcher = Searcher(Settings(index, "cpu"), encoder)
    contexts = [Context(f"A gripper {number} [CITE]") for number in range(place % 7 + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder.model, "encode_query", harmful(harm, place))
        return refused(lambda: searcher.search(contexts), "not finite or is zero")


def into_the_blocks(harm: Harm, place: int, encoder: Encoder, source: Path, index: Path, folder: Path) -> str:
    """Whatever hands vectors to the index, an encoder or another program."""
    blocks = [np.eye(32, dtype=np.float32) for _ in range(3)]
    harm(blocks[place % 3], place % 32)
    path = folder / f"vectors-{place}"
    said = refused(lambda: vectors.write(path, 32, blocks), "not finite or is zero")
    return said or ("written" if path.exists() else "")


def into_a_shard(harm: Harm, place: int, encoder: Encoder, source: Path, index: Path, folder: Path) -> str:
    """A finished shard whose numbers change on the disk is encoded again."""
    root, built = folder / f"shards-{place}", []

    def stop(stage: str, *_: object) -> None:
        if stage == "vectors" and not built:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(str(source), root, encoder, progress=stop, shard=8)
    shard = sorted((root / "staging" / "shards").glob("*.parquet"))[place % 4]
    rows = pq.read_table(shard)
    content = np.array(rows["vector"].to_pylist(), np.float16)
    harm(content, place % len(content))
    harmed = pa.FixedSizeListArray.from_arrays(content.ravel(), 32)
    pq.write_table(rows.set_column(1, "vector", harmed), shard)
    built.append(build(str(source), root, encoder, shard=8))
    made = vectors.VectorIndex(Store(root).open().path / "vectors.faiss").stored(range(30))
    whole = vectors.VectorIndex(Store(index).open().path / "vectors.faiss").stored(range(30))
    return "" if np.array_equal(made, whole) else "another vector"


def out_of_the_index(
    harm: Harm, place: int, encoder: Encoder, source: Path, index: Path, folder: Path
) -> str:
    """An index that holds one, as its maker wrote it, is not searched."""
    stored = np.eye(32, dtype=np.float32)
    harm(stored, place % 32)
    made = faiss.IndexScalarQuantizer(32, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    made.add(stored)
    path = folder / f"out-{place}"
    faiss.write_index(made, str(path))
    return refused(lambda: vectors.VectorIndex(path), str(path), "build the index again")
