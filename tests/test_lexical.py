"""The BM25 files against the index that bm25s makes in memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from numpy.typing import NDArray

from data.filter import Filter, Selection
from data.paper import Paper
from data.table import PaperTable, PaperWriter
from indexer import lexical
from indexer.lexical import LexicalIndex

QUERIES = (
    "residual convolutional models for object detection",
    "attention attention attention",  # a word again counts again
    "a protein of each amino acid",
    "federated learning with a gradient of a client",
)


def texts_of(papers: Sequence[dict[str, str]]) -> list[str]:
    return [f"{paper['title']}. {paper['abstract']}" for paper in papers]


def reference(texts: Sequence[str], query: str) -> NDArray[np.float32]:
    """bm25s's own score of every text."""
    retriever = bm25s.BM25(k1=lexical.K1, b=lexical.B)
    stemmer = Stemmer.Stemmer("english")
    tokens = bm25s.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False)
    retriever.index(tokens, show_progress=False)
    words = bm25s.tokenize([query], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)[0]
    known = [word for word in words if word in retriever.vocab_dict]
    return np.asarray(retriever.get_scores(known) if known else np.zeros(len(texts)), np.float32)


def written(folder: Path, *batches: Sequence[str]) -> LexicalIndex:
    lexical.write(folder, batches)
    return LexicalIndex(folder)


@pytest.mark.parametrize("query", QUERIES)
def test_scores_and_order_are_those_of_bm25s(
    tmp_path: Path, papers: list[dict[str, str]], query: str
) -> None:
    texts = texts_of(papers)
    scores, rows = written(tmp_path / "words", texts[:100], texts[100:]).search([query], len(texts))
    expected = reference(texts, query)
    assert expected.max() > 0
    assert sorted(rows[0].tolist()) == list(range(len(texts)))
    np.testing.assert_allclose(scores[0], expected[rows[0]], atol=1e-5)
    assert (np.diff(scores[0]) <= 0).all()
    np.testing.assert_allclose(scores[0], np.sort(expected)[::-1], atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 18])
def test_scores_are_added_up_to_the_bits_of_bm25s(
    tmp_path: Path, papers: list[dict[str, str]], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical, "BLOCK", block)
    index = written(tmp_path / "words", texts_of(papers))
    theirs = bm25s.BM25.load(str(tmp_path / "words"), mmap=True)
    tokens = [*range(0, len(theirs.vocab_dict), 3), 3, 0, 3]  # some of them twice
    np.testing.assert_array_equal(index.scores(tokens), theirs.get_scores_from_ids(tokens))


def test_several_batches_give_the_files_of_one(tmp_path: Path, papers: list[dict[str, str]]) -> None:
    texts = texts_of(papers)
    written(tmp_path / "one", texts)
    written(tmp_path / "many", texts[:1], [], texts[1:2], texts[2:150], texts[150:])
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "many").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name


@pytest.mark.parametrize("portion", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    "origin",
    [
        range(300),  # nothing new
        [row for row in range(300) if row % 7],  # withdrawn
        [*range(300), *range(300, 340)],  # added
        [300 + row // 9 if row % 9 == 4 else row for row in range(290)] + [333, 334],  # changed, and more
        [300, 301],  # nothing is left
        [299, 300],
    ],
)
def test_an_update_scores_as_the_texts_written_anew_to_the_bit(
    tmp_path: Path,
    papers: list[dict[str, str]],
    origin: Sequence[int],
    portion: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lexical, "PORTION", portion)
    old = texts_of(papers)
    fresh = [f"{old[-row]} Novel words{row} for residual models." for row in range(1, 60)] + ["", "the of"]
    new = [fresh[row - 300] for row in origin if row >= 300]
    expected = [old[row] if row < 300 else None for row in origin]
    rest = iter(new)
    whole = written(tmp_path / "whole", [next(rest) if text is None else text for text in expected])
    written(tmp_path / "old", old)
    lexical.update(tmp_path / "new", tmp_path / "old", np.asarray(origin), [new[:3], [], new[3:]])
    updated = LexicalIndex(tmp_path / "new")
    assert len(updated) == len(origin)
    for mine, theirs in zip(updated.search(QUERIES, 400), whole.search(QUERIES, 400), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    every = np.arange(len(origin))
    for mine, theirs in zip(updated.matches(QUERIES), whole.matches(QUERIES), strict=True):
        np.testing.assert_array_equal(mine.stressed(every), theirs.stressed(every))
    words = [json.loads((tmp_path / n / "vocab.index.json").read_bytes()) for n in ("new", "whole")]
    assert set(words[0]) - {""} == set(words[1]) - {""}


def test_nothing_of_the_work_is_left_in_the_folder(tmp_path: Path, papers: list[dict[str, str]]) -> None:
    written(tmp_path / "words", *(texts_of(papers)[n : n + 50] for n in range(0, 300, 50)))
    assert not [f for f in (tmp_path / "words").iterdir() if "half" in f.name or "part" in f.name]


def test_empty_texts_keep_their_rows_and_score_nothing(tmp_path: Path) -> None:
    texts = ["", "deep trees", "", "shallow lakes", "the of and"]
    scores, rows = written(tmp_path / "words", texts).search(["lakes and trees"], 5)
    by_row = dict(zip(rows[0].tolist(), scores[0].tolist(), strict=True))
    assert by_row == pytest.approx(dict(enumerate(reference(texts, "lakes and trees").tolist())), abs=1e-5)
    assert {row for row, score in by_row.items() if score > 0} == {1, 3}


@pytest.mark.parametrize("texts", [[""], ["", "", ""], ["the of and"]])
def test_a_corpus_without_words_answers_with_zeros(tmp_path: Path, texts: list[str]) -> None:
    index = written(tmp_path / "words", texts)
    scores, rows = index.search(["any words", ""], 10)
    assert len(index) == len(texts)
    assert scores.shape == rows.shape == (2, len(texts))
    assert not scores.any()


@pytest.mark.parametrize("query", ["", "the of", "zyzzyva", "!?", "1234567 zyzzyva"])
def test_a_query_without_a_known_word_scores_nothing(
    tmp_path: Path, papers: list[dict[str, str]], query: str
) -> None:
    scores, _ = written(tmp_path / "words", texts_of(papers)).search([query, "attention"], 5)
    assert not scores[0].any()
    assert scores[1].all()


def test_equal_scores_stand_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    index = written(tmp_path / "words", ["lake", "tree", "lake shore", "tree", "tree", "tree"])
    for k in range(1, 7):
        _, rows = index.search(["tree"], k)
        assert rows[0].tolist() == [1, 3, 4, 5, 0, 2][:k]


@pytest.mark.parametrize("k", [1, 20, 1000])
def test_a_selection_is_searched_with_the_scores_of_the_whole(
    tmp_path: Path, papers: list[dict[str, str]], k: int
) -> None:
    with PaperWriter(tmp_path / "papers.arrow") as writer:
        for row in range(len(papers)):
            writer.add(Paper("x", "A title", year=row % 10))
    texts = texts_of(papers)
    index = written(tmp_path / "words", texts)
    for keep in (Filter(until=0), Filter(since=5), Filter(since=11)):
        selection = Selection(PaperTable(tmp_path / "papers.arrow"), keep)
        scores, rows = index.search([QUERIES[0], "zyzzyva"], k, selection)
        whole = reference(texts, QUERIES[0])
        expected = sorted(selection.rows.tolist(), key=lambda row: -whole[row])[:k]
        assert rows[0].tolist() == expected
        np.testing.assert_allclose(scores[0], whole[expected], atol=1e-5)
        assert rows[1].tolist() == selection.rows.tolist()[:k]
        assert not scores[1].any()


def test_case_and_other_scripts_are_words_too(tmp_path: Path) -> None:
    index = written(tmp_path / "words", ["GROẞE Netze", "große netze", "глубокое обучение", "深度 学习"])
    for query, row in (("ГЛУБОКОЕ", 2), ("深度", 3)):
        scores, rows = index.search([query], 1)
        assert rows[0, 0] == row
        assert scores[0, 0] > 0


def test_no_queries_give_no_answers(tmp_path: Path) -> None:
    scores, rows = written(tmp_path / "words", ["deep trees", "lakes"]).search([], 2)
    assert scores.shape == rows.shape == (0, 2)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 10, 300, 5000])
def test_the_best_of_many_are_those_of_a_whole_sort(share: float, k: int) -> None:
    rng = np.random.default_rng(7)
    scores = np.zeros(20_000, np.float32)
    chosen = rng.random(len(scores)) < share
    scores[chosen] = rng.integers(1, 60, chosen.sum()) / 4  # many are equal
    expected = np.lexsort((np.arange(len(scores)), -scores))[:k]
    np.testing.assert_array_equal(lexical._best(scores, k), expected)


def test_the_share_of_the_title_s_words_that_a_text_has(tmp_path: Path) -> None:
    titles = ["Graph networks", "Storms", "Networks of rivers", ""]
    abstracts = ["Rivers flow.", "Graph graph graph, and storms.", "A graph.", "Rivers."]
    corpus = [
        lexical.text_of(Paper(str(n), t, a)) for n, (t, a) in enumerate(zip(titles, abstracts, strict=True))
    ]
    index = written(tmp_path / "words", corpus)
    [found] = index.matches(["a storm on a graph of rivers"])
    weights = {word: np.log(1 + (4 - df + 0.5) / (df + 0.5)) for word, df in (("two", 2), ("three", 3))}
    first = weights["three"] / (weights["three"] + weights["two"])  # graph, of graph and networks
    # Storms and, thrice in the abstract, graph; rivers, of networks and rivers; of no title nothing.
    third = weights["three"] / (weights["three"] + weights["two"])
    np.testing.assert_allclose(found.stressed(np.array([0, 1, 2, 3])), [first, 1, third, 0], atol=1e-3)
    np.testing.assert_allclose(found.stressed(np.array([2, 0])), [third, first], atol=1e-3)
    [nothing] = index.matches(["of the"])
    assert not nothing.stressed(np.array([0, 1])).any()


def test_an_index_without_stressed_words_says_none(tmp_path: Path, papers: list[dict[str, str]]) -> None:
    index = written(tmp_path / "words", texts_of(papers))
    [found] = index.matches(QUERIES[:1])
    scores = found.scores
    (tmp_path / "words" / lexical.STRESSED).unlink()
    [found] = LexicalIndex(tmp_path / "words").matches(QUERIES[:1])
    np.testing.assert_array_equal(found.scores, scores)
    assert not found.stressed(np.arange(10)).any()
