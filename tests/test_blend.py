"""Probabilities and logits brought together: what moves what, how the numbers are fitted, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data.errors import UserError
from indexer.calibration import expected_error
from model import blend
from model.blend import FILE, Blend, moved

SAME = Blend(0.0, 1.0, 0.0, 0.1, "an encoder", "a reranker")
TOLD = np.array([0.4, 0.3, 0.05, 0.01], np.float32)
LOGITS = np.array([-1.0, 2.0, 3.0, 0.0], np.float32)

Lists = list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]


def made_up_lists(count: int, truth: Blend, seed: int = 0) -> Lists:
    """Lists of 20 whose papers are cited as often as `truth` says."""
    random = np.random.default_rng(seed)
    lists = []
    for _ in range(count):
        told = (1 / (1 + np.exp(-random.normal(-2, 1.5, 20)))).astype(np.float32)
        logits = random.normal(5, 1.5, 20).astype(np.float32)
        lists.append((told, logits, random.random(20) < truth.probabilities(told, logits)))
    return lists


def test_a_weight_of_nothing_changes_nothing() -> None:
    np.testing.assert_allclose(SAME.probabilities(TOLD, LOGITS), TOLD, atol=1e-6)


def test_a_list_of_equal_logits_stays_as_it_is() -> None:
    told = replace(SAME, weight=0.8).probabilities(TOLD, np.full(4, 7.5, np.float32))
    np.testing.assert_allclose(told, TOLD, atol=1e-6)


def test_a_logit_moves_the_log_odds_by_what_it_is_above_the_others() -> None:
    read = moved(TOLD, LOGITS, 0.5)
    odds = np.log(TOLD / (1 - TOLD))
    assert (read - odds)[1] - (read - odds)[0] == pytest.approx(1.5, abs=1e-5)
    expected = np.log((TOLD * np.exp(0.5 * LOGITS)).sum() / TOLD.sum())
    assert (read - odds)[3] == pytest.approx(-expected, abs=1e-5)
    np.testing.assert_allclose(moved(TOLD, LOGITS + 90, 0.5), read, atol=1e-4)


def test_an_unlikely_candidate_more_moves_no_other() -> None:
    more = moved(np.append(TOLD, 1e-6).astype(np.float32), np.append(LOGITS, 1.0).astype(np.float32), 0.5)
    np.testing.assert_allclose(more[:4], moved(TOLD, LOGITS, 0.5), atol=1e-4)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(-1e4, 1e4, width=32)), max_size=30),
    st.floats(-3, 3),
    st.floats(0.01, 5),
)
def test_a_probability_is_one_whatever_is_read(
    pairs: list[tuple[float, float]], weight: float, slope: float
) -> None:
    told, logits = (np.array([pair[side] for pair in pairs], np.float32) for side in (0, 1))
    found = Blend(weight, slope, 0.3, 0.1, "", "").probabilities(told, logits)
    assert found.shape == told.shape
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


def test_the_numbers_are_found_again_and_hold_for_lists_never_seen() -> None:
    truth = Blend(0.6, 1.3, -0.4, 0.0, "", "")
    fitted, told = blend.fit(made_up_lists(800, truth), "an encoder", "a reranker")
    assert (fitted.weight, fitted.slope, fitted.shift) == pytest.approx((0.6, 1.3, -0.4), abs=0.1)
    assert (fitted.encoder, fitted.reranker, len(told)) == ("an encoder", "a reranker", 800)
    others = made_up_lists(400, truth, seed=1)
    found = np.concatenate([fitted.probabilities(t, logits) for t, logits, _ in others])
    right = np.concatenate([cited for *_, cited in others])
    assert expected_error(found.astype(np.float64), right) < 0.02


def test_logits_that_say_nothing_get_no_weight() -> None:
    fitted, _ = blend.fit(made_up_lists(800, SAME), "", "")
    assert (fitted.weight, fitted.slope, fitted.shift) == pytest.approx((0, 1, 0), abs=0.06)


def test_too_little_or_senseless_data_is_refused() -> None:
    lists = made_up_lists(300, SAME)
    with pytest.raises(UserError, match="fewer than 100 of the contexts cite a paper"):
        blend.fit(lists[:99], "", "")
    turned = [(1 - told, np.zeros(20, np.float32), right) for told, _, right in lists]
    with pytest.raises(UserError, match="cited no more often"):
        blend.fit(turned, "", "")


def test_a_blend_is_saved_and_loaded(tmp_path: Path) -> None:
    fitted = Blend(0.3, 1.1, -0.2, 0.05, "e", "r")
    assert fitted.save(tmp_path) == tmp_path / FILE
    assert blend.load(tmp_path, "e", "r") == fitted


def test_what_was_not_fitted_for_these_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"was not fitted .* indexer fit CONTEXTS --reranker "):
        blend.load(tmp_path, "e", "r")
    replace(SAME, encoder="abc").save(tmp_path)
    with pytest.raises(UserError, match="fitted with the encoder abc, this one is e"):
        blend.load(tmp_path, "e", "a reranker")
    with pytest.raises(UserError, match="fitted with the reranker a reranker, this one is r"):
        blend.load(tmp_path, "abc", "r")
    for slope in (0.0, -1.0, float("nan")):
        replace(SAME, slope=slope).save(tmp_path)
        with pytest.raises(UserError, match="not the numbers of a fitted reranker"):
            blend.load(tmp_path, "an encoder", "a reranker")
    for content in (b"{", b"[]", b"\xff", json.dumps({"weight": 1}).encode(), b'{"weight": "x"}'):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(UserError, match="not the numbers of a fitted reranker"):
            blend.load(tmp_path, "an encoder", "a reranker")
    with pytest.raises(UserError, match="cannot be written"):
        SAME.save(tmp_path / "absent")
