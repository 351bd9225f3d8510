"""The dense index against NumPy's brute force."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.errors import UserError
from data.filter import Filter, Selection
from data.paper import Paper
from data.table import PaperTable, PaperWriter
from indexer import vectors
from indexer.vectors import VectorIndex
from model.encoder import Vectors

HALF = 2e-3  # what 16-bit floats may move the inner product of two unit vectors


def unit(count: int, dimension: int, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return np.ascontiguousarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def written(path: Path, stored: Vectors) -> VectorIndex:
    vectors.write(path / "vectors.faiss", stored.shape[1], [stored])
    return VectorIndex(path / "vectors.faiss")


def selection(folder: Path, mask: Sequence[bool] | NDArray[np.bool_]) -> Selection:
    """The rows of the mask, as a filter of years selects them."""
    with PaperWriter(folder / "papers.arrow") as writer:
        for allowed in mask:
            writer.add(Paper("x", "A title", year=2001 if allowed else 2000))
    return Selection(PaperTable(folder / "papers.arrow"), Filter(since=2001))


def filtered(stored: Vectors, queries: Vectors, k: int, keep: Selection) -> NDArray[np.int64]:
    """The rows of brute force over the selected rows alone."""
    return keep.rows[brute(stored[keep.rows], queries, k)[1]]


def brute(stored: Vectors, queries: Vectors, k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores = queries.astype(np.float64) @ stored.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize(("count", "dimension", "k"), [(1000, 384, 10), (500, 33, 50), (3, 768, 1)])
def test_search_gives_the_rows_and_scores_of_brute_force(
    tmp_path: Path, count: int, dimension: int, k: int
) -> None:
    full, queries = unit(count, dimension), unit(40, dimension, seed=1)
    halves = full.astype(np.float16).astype(np.float32)  # what a build stores
    scores, rows = written(tmp_path, halves).search(queries, k)
    expected_scores, expected_rows = brute(halves, queries, k)
    assert rows.tolist() == expected_rows.tolist()
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ full.T, rows, axis=1), atol=HALF)


def test_blocks_are_stored_in_their_order(tmp_path: Path) -> None:
    stored = unit(100, 16)
    count = vectors.write(tmp_path / "v", 16, [stored[:1], stored[1:70], stored[70:]])
    assert count == len(VectorIndex(tmp_path / "v")) == 100
    _, rows = VectorIndex(tmp_path / "v").search(stored, 1)
    assert rows[:, 0].tolist() == list(range(100))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("few", [0, vectors.FEW])  # by the selector at every share, and as it is
def test_a_selection_is_searched_as_if_it_were_all(
    tmp_path: Path, share: float, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "FEW", few)
    stored, queries = unit(20_000, 32).astype(np.float16).astype(np.float32), unit(20, 32, seed=1)
    keep = selection(tmp_path, np.random.default_rng(2).random(len(stored)) < share)
    assert len(keep)
    scores, rows = written(tmp_path, stored).search(queries, 100, keep)
    assert rows.tolist() == filtered(stored, queries, 100, keep).tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ stored.T, rows, axis=1), atol=1e-6)


@pytest.mark.parametrize("few", [0, vectors.FEW])
def test_a_selection_of_nothing_has_empty_answers(
    tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "FEW", few)
    scores, rows = written(tmp_path, unit(7, 16)).search(
        unit(2, 16, seed=1), 3, selection(tmp_path, [False] * 7)
    )
    assert scores.shape == rows.shape == (2, 0)


def test_a_k_over_the_size_gives_every_row_once(tmp_path: Path) -> None:
    scores, rows = written(tmp_path, unit(7, 16)).search(unit(2, 16, seed=1), 300)
    assert scores.shape == rows.shape == (2, 7)
    assert sorted(rows[0].tolist()) == list(range(7))


def test_no_queries_give_no_answers(tmp_path: Path) -> None:
    scores, rows = written(tmp_path, unit(7, 16)).search(np.zeros((0, 16), np.float32), 3)
    assert scores.shape == rows.shape == (0, 3)


def test_score_is_the_inner_product_of_the_rows_asked_for(tmp_path: Path) -> None:
    stored, query = unit(50, 32), unit(1, 32, seed=1)[0]
    scores = written(tmp_path, stored).score(query, [7, 3, 49])
    np.testing.assert_allclose(scores, stored[[7, 3, 49]] @ query, atol=HALF)
    assert written(tmp_path, stored).score(query, []).shape == (0,)


def test_score_agrees_with_search(tmp_path: Path) -> None:
    index = written(tmp_path, unit(50, 384))
    query = unit(1, 384, seed=1)
    scores, rows = index.search(query, 50)
    np.testing.assert_allclose(index.score(query[0], rows[0].tolist()), scores[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 15), (4, 17), (16,)])
def test_vectors_of_another_dimension_are_refused_with_both(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"shape \(.*1[567].*16 dimensions|shape \(16,\).*16 dimensions"):
        vectors.write(tmp_path / "v", 16, [np.zeros(shape, np.float32)])
    with pytest.raises(UserError, match="for an index of 16 dimensions"):
        written(tmp_path, unit(5, 16)).search(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    bad = unit(5, 16)
    bad[3, 2] = value
    with pytest.raises(UserError, match="not finite"):
        vectors.write(tmp_path / "v", 16, [bad])
    with pytest.raises(UserError, match="not finite"):
        written(tmp_path, unit(5, 16)).search(bad, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("count", [5, 50_000])  # under and over what a file buffers
def test_a_full_disk_is_an_os_error(count: int) -> None:
    with pytest.raises(OSError, match=r"No space left|could not write 50,000 vectors"):
        vectors.write(Path("/dev/full"), 16, [unit(count, 16)])
