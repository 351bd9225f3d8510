"""Codes on a GPU's card: recall, filters and what a card cannot do, on a card of CPU classes.

FAISS's IndexIVFPQ stands where its GpuIndexIVFPQ would; tests marked `gpu` use the real one.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import cpu_card
from test_nearest import COUNT, DIMENSION, K, brute, clustered, selection

from indexer import codes, gpu, kinds, nearest, vectors
from indexer.codes import Codes, Probe
from indexer.gpu import Card, ExactOnCard
from indexer.nearest import Lists
from indexer.settings import LEAST_RECALL
from indexer.vectors import VectorIndex
from model.encoder import Vectors

BYTES = 8  # of a code: two dimensions each


def room(parts: int) -> int:
    """Free bytes in which codes of so many bytes fit just so."""
    return round(codes.GROWS * COUNT * (parts + codes.ROW) / gpu.SHARE) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("codes")
    vectors.write(made / "vectors.faiss", DIMENSION, [clustered(COUNT, 0)])
    return made


@pytest.fixture(scope="module")
def stored(folder: Path) -> Vectors:
    return VectorIndex(folder / "vectors.faiss").stored(range(COUNT))


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    return kinds.write(folder, "lists", None, lambda: clustered(100, 1), lambda *_: None)


@pytest.fixture(scope="module")
def lists(folder: Path, facts: dict[str, Any]) -> Lists:
    opened = kinds.opened(folder, facts, None)
    assert isinstance(opened, Lists)
    return opened


def coded(folder: Path, lists: Lists, card: Card) -> Codes:
    exact = VectorIndex(folder / "vectors.faiss")
    measured = nearest.queries_of(folder / "lists"), nearest.answers_of(folder / "lists", exact)
    made = codes.by_codes(lists, exact, card, measured)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def index(folder: Path, lists: Lists) -> Codes:
    return coded(folder, lists, cpu_card(room(BYTES)))


@pytest.mark.parametrize(
    ("dimension", "free", "parts"),
    [
        (384, 10**9, 96),
        (768, 10**9, 96),
        (100, 10**9, 20),
        (16, room(8), 8),
        (16, room(8) - 4, 4),
        (16, room(1) - 4, 0),
    ],
)
def test_the_longest_codes_that_fit_are_taken(dimension: int, free: int, parts: int) -> None:
    assert codes.parts_for(COUNT, dimension, cpu_card(free)) == parts


@pytest.mark.parametrize("k", [1, 10, K, 300, 1000])
@pytest.mark.parametrize("together", [1, 40])
def test_nearly_all_of_the_exact_answers_are_found(
    stored: Vectors, index: Codes, k: int, together: int
) -> None:
    queries = clustered(40, 2)
    found = [index.search(queries[n : n + together], k) for n in range(0, 40, together)]
    scores, rows = (np.concatenate(part) for part in zip(*found, strict=True))
    assert scores.shape == rows.shape == (40, k)
    assert nearest.share(rows, brute(stored, queries, k)) >= LEAST_RECALL
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ stored.T, rows, axis=1), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == k for row in rows.tolist())


def test_the_card_answers_and_looks_at_less_than_all(index: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the recall would say nothing of the codes."""
    monkeypatch.setattr(Lists, "search", lambda *_: pytest.fail("the CPU searched"))
    for k in (1, K, 300):
        index.search(clustered(3, 2), k)
    first, second = index._probes
    assert (first.k, second.k) == nearest.KS
    assert first.lists < nearest.lists_for(COUNT) / 2
    assert K <= first.depth < COUNT / 20


def test_the_recall_that_is_told_is_the_recall_that_is_found(stored: Vectors, index: Codes) -> None:
    queries = clustered(200, 3)
    found = nearest.share(index.search(queries, K)[1], brute(stored, queries, K))
    assert index.recall == pytest.approx(found, abs=0.006)


def test_an_answer_has_its_place_among_the_candidates_or_none() -> None:
    candidates, answers = np.array([[5, 9, 2, 7], [4, 1, -1, -1]]), np.array([[7, 3, 5], [4, 1, 0]])
    assert codes._places(candidates, answers).tolist() == [[3, 4, 0], [0, 1, 4]]


@pytest.mark.parametrize("share", [0.5, 0.05, 0.001])
def test_a_filter_costs_no_recall(stored: Vectors, index: Codes, tmp_path: Path, share: float) -> None:
    keep, queries = selection(tmp_path, np.random.default_rng(4).random(COUNT) < share), clustered(20, 5)
    _, rows = index.search(queries, K, keep)
    assert keep.mask[rows].all()
    assert nearest.share(rows, keep.rows[brute(stored[keep.rows], queries, K)]) >= LEAST_RECALL


def test_the_lists_give_more_answers_than_a_gpu_can(index: Codes, lists: Lists) -> None:
    queries = clustered(3, 2)
    k = gpu.MOST + 1
    assert index.search(queries, k)[1].tolist() == lists.search(queries, k)[1].tolist()


def test_an_answer_is_never_short(stored: Vectors, index: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_probes", [Probe(1000, 1, 1000)])  # one list holds less
    _, rows = index.search(clustered(5, 2), 1000)
    assert (rows >= 0).all()


def test_a_search_for_which_memory_is_full_is_the_lists(
    index: Codes, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Any:
        raise RuntimeError("StandardGpuResources: alloc fail type TemporaryMemoryOverflow")

    monkeypatch.setattr(index, "_candidates", full)
    queries = clustered(3, 2)
    assert index.search(queries, K)[1].tolist() == lists.search(queries, K)[1].tolist()


@pytest.mark.parametrize(
    ("free", "kind", "told"),
    [(10**9, ExactOnCard, 0), (room(BYTES), Codes, 0), (1000, Lists, 1)],
)
def test_memory_decides_what_searches(
    folder: Path,
    facts: dict[str, Any],
    free: int,
    kind: type,
    told: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(kinds, "EXACT_UP_TO", COUNT - 1)
    assert type(kinds.opened(folder, facts, cpu_card(free))) is kind
    assert len(caplog.messages) == told
    assert all("20,000 vectors do not fit the GPU" in line and "\n" not in line for line in caplog.messages)


def test_without_lists_the_cpu_searches_exactly_what_does_not_fit(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert type(kinds.opened(folder, {"kind": "exact", "asked": "exact"}, cpu_card(1000))) is VectorIndex
    assert "do not fit the GPU" in caplog.text


def test_codes_that_fall_short_say_so(
    folder: Path,
    facts: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(kinds, "EXACT_UP_TO", COUNT - 1)
    monkeypatch.setattr(codes, "MOST", 2 * K)  # of a byte each: too little to choose by
    caplog.set_level(logging.WARNING)
    opened = kinds.opened(folder, facts, cpu_card(room(1)))
    assert isinstance(opened, Codes)
    assert opened.recall < LEAST_RECALL
    (line,) = caplog.messages
    assert line.startswith(f"vectors coded for the GPU find {opened.recall:.4f} of the exact answers")


def test_an_index_of_before_without_answers_is_measured_all_the_same(
    folder: Path, lists: Lists, index: Codes, tmp_path: Path
) -> None:
    exact = VectorIndex(folder / "vectors.faiss")
    kept = nearest.answers_of(folder / "lists", exact)
    (folder / "lists" / "answers.npy").rename(tmp_path / "answers.npy")
    try:
        assert nearest.answers_of(folder / "lists", exact).tolist() == kept.tolist()
    finally:
        (tmp_path / "answers.npy").rename(folder / "lists" / "answers.npy")


def test_the_rows_of_an_update_are_found(folder: Path, stored: Vectors, tmp_path: Path) -> None:
    changed = np.concatenate([stored[500:], clustered(300, 8)])
    vectors.write(tmp_path / "vectors.faiss", DIMENSION, [changed])
    queries = nearest.queries_of(folder / "lists")
    facts = kinds.write(tmp_path, "lists", None, lambda: queries, lambda *_: None, folder)
    lists = kinds.opened(tmp_path, facts, None)
    assert isinstance(lists, Lists)
    index = coded(tmp_path, lists, cpu_card(room(BYTES)))
    asked = np.arange(0, len(changed), 199)
    _, rows = index.search(changed[asked], 10)
    assert nearest.share(rows, brute(changed, changed[asked], 10)) >= LEAST_RECALL
    assert index.recall >= LEAST_RECALL - 0.006


@pytest.mark.gpu
def test_a_gpu_finds_nearly_all_of_the_exact_answers(folder: Path, stored: Vectors, lists: Lists) -> None:
    card = gpu.card_of("cuda")
    assert card
    index = coded(folder, lists, replace(card, free=room(BYTES)))
    queries = clustered(40, 2)
    for k in (1, K, 300):
        scores, rows = index.search(queries, k)
        assert nearest.share(rows, brute(stored, queries, k)) >= LEAST_RECALL
        np.testing.assert_allclose(scores, np.take_along_axis(queries @ stored.T, rows, axis=1), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("dimension", "parts"), [(384, 96), (768, 96), (384, 48), (33, 3)])
def test_a_gpu_makes_codes_of_every_length(dimension: int, parts: int) -> None:
    card = gpu.card_of("cuda")
    assert card
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2000, dimension)).astype(np.float32)
    made = card.coded(dimension, 8, parts)
    made.train(drawn)
    made.add(drawn)
    expected = cpu_card(0).coded(dimension, 8, parts)
    expected.train(drawn)
    expected.add(drawn)
    params = vectors.python.SearchParametersIVF(nprobe=8)
    found, known = (each.search(drawn[:50], 50, params=params)[1] for each in (made, expected))
    assert nearest.share(found, known) > 0.3  # other centres, by chance: the same rows in the main
