"""The authors of papers, and how often what they wrote is cited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_corpus
from hypothesis import given
from hypothesis import strategies as st
from test_evidence import evidence_of, made_up_citations, write_citations

from data.paper import Paper
from data.table import PaperTable, PaperWriter
from indexer import authors
from indexer.authors import Authors, Renown, digested
from indexer.build import build
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import Store
from indexer.update import Change, update
from model.encoder import Encoder

NAMES = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Ποιητής", "李明", "")


def opened(folder: Path, written: Sequence[Sequence[str]]) -> Authors:
    folder.mkdir(exist_ok=True)
    with PaperWriter(folder / "papers.arrow") as writer:
        for number, names in enumerate(written):
            writer.add(Paper(f"p{number}", "Title", authors=tuple(names)))
    authors.write(folder, PaperTable(folder / "papers.arrow"))
    return Authors(folder)


def by_hand(
    written: Sequence[Sequence[str]], times: Sequence[int], lost: Sequence[int], row: int
) -> list[int]:
    """The same, counted paper by paper; `times` is how often each is cited, `lost` what of it is left out."""
    each = [
        sum(times[other] - lost[other] for other, by in enumerate(written) if other != row and name in by)
        for name in written[row]
    ] or [0]
    return [max(each), sum(each), each[0], each[-1]]


def test_the_authors_of_rows_are_theirs(tmp_path: Path) -> None:
    written = [["Ada Lovelace", "Alan Turing"], [], ["ADA LOVELACE"], ["李明"] * 3]
    found = opened(tmp_path, written)
    assert len(found) == 4
    digests, owners = found.of(np.array([3, 1, 0, 2]))
    assert owners.tolist() == [0, 0, 0, 2, 2, 3]
    assert (
        digests.tolist() == digested(["李明"] * 3 + ["ada lovelace", "alan turing", "Ada Lovelace"]).tolist()
    )
    assert len(set(digested(NAMES).tolist())) == len(NAMES)


@given(
    st.lists(st.lists(st.sampled_from(NAMES), max_size=3, unique=True), min_size=1, max_size=8),
    st.data(),
)
def test_renown_is_what_others_cite_of_the_authors(written: list[list[str]], data: st.DataObject) -> None:
    import tempfile

    count = len(written)
    times = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    lost = [data.draw(st.integers(0, each)) for each in times]
    rows = np.flatnonzero(times)
    with tempfile.TemporaryDirectory() as folder:
        renown = Renown(opened(Path(folder), written), rows, np.array(times)[rows])
        found = renown.of(
            np.arange(count), np.array(times) - np.array(lost), np.repeat(np.arange(count), lost)
        )
    assert found.tolist() == [by_hand(written, times, lost, row) for row in range(count)]


def test_an_author_named_twice_counts_once(tmp_path: Path) -> None:
    renown = Renown(opened(tmp_path, [["Ada Lovelace", "ada lovelace"]]), np.array([0]), np.array([7]))
    found = renown.of(np.array([0]), np.array([7]), np.zeros(0, np.int64))
    assert not found.any()  # its own citations are no renown


def test_nothing_is_cited(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    renown = Renown(opened(tmp_path, [["Ada Lovelace"], []]), none, none)
    assert renown.of(np.array([0, 1]), np.zeros(2, np.int64), none).tolist() == [[0] * 4] * 2
    assert renown.of(none, none, none).shape == (0, 4)


def renowned(searcher: Searcher, without: str = "") -> dict[str, list[float]]:
    """What the evidence of an index says of the authors of each paper."""
    ids = searcher.snapshot.papers.ids()
    found = evidence_of(searcher)
    nothing = found.worded([""])[0]
    said = found.say(np.zeros(32, np.float32), np.arange(len(ids)), nothing, None, without)
    return dict(zip(ids, said.renown.tolist(), strict=True))


@pytest.fixture
def written(papers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Forty papers by a few hands, so that authors have several."""
    return [
        paper | {"authors": [*dict.fromkeys([NAMES[number % 3], NAMES[number % 4]]), f"Author {number}"]}
        for number, paper in enumerate(papers[:40])
    ]


@pytest.fixture
def files(written: list[dict[str, Any]], tmp_path: Path) -> tuple[str, str]:
    """A corpus of them, and a file of citations."""
    contexts = write_citations(tmp_path / "contexts.jsonl", made_up_citations(written))
    return str(write_corpus(tmp_path / "corpus.jsonl", written)), str(contexts)


def test_an_index_knows_the_renown_of_its_papers(
    written: list[dict[str, Any]], files: tuple[str, str], tiny: Encoder, tmp_path: Path
) -> None:
    citations = made_up_citations(written)
    corpus, contexts = files
    build(corpus, tmp_path / "index", tiny, contexts=contexts)
    searcher = Searcher(Settings(tmp_path / "index", "cpu"), tiny)
    for without in ("", "citing-1"):
        counted = [
            sum(c.cited_id == paper["id"] and c.citing_id != without for c in citations) for paper in written
        ]
        names = [paper["authors"] for paper in written]
        found = renowned(searcher, without)
        for row, paper in enumerate(written):
            assert found[paper["id"]] == by_hand(names, counted, [0] * len(counted), row)
    assert any(best for best, *_ in renowned(searcher).values())


def test_an_update_knows_what_a_new_index_would(
    written: list[dict[str, Any]], files: tuple[str, str], tiny: Encoder, tmp_path: Path
) -> None:
    whole, contexts = files
    build(whole, tmp_path / "new", tiny, contexts=contexts)
    before = [paper | {"authors": ["Nobody"]} for paper in written[5:30]]
    build(str(write_corpus(tmp_path / "some.jsonl", before)), tmp_path / "index", tiny)
    update(tmp_path / "index", Change(whole, whole=True, contexts=contexts), tiny)
    new, updated = (Searcher(Settings(tmp_path / name, "cpu"), tiny) for name in ("new", "index"))
    assert renowned(updated) == renowned(new)


def test_an_older_index_says_nothing_of_authors(
    files: tuple[str, str], tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, contexts = files
    with monkeypatch.context() as before:
        before.setattr(authors, "write", lambda folder, papers: None)
        build(corpus, tmp_path / "index", tiny, contexts=contexts)
    assert authors.FILE not in Store(tmp_path / "index").open().manifest.files
    searcher = Searcher(Settings(tmp_path / "index", "cpu"), tiny)
    assert not any(any(found) for found in renowned(searcher).values())
    assert searcher.search([], 5) == []
