"""Exact vectors on a card against brute force: on one of CPU classes, and on a GPU's where there is one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from conftest import cpu_card
from test_vectors import HALF, brute, filtered, selection, unit, written

from data.errors import UserError
from indexer import gpu
from indexer.gpu import ExactOnCard
from model.encoder import Vectors

ENOUGH = 1 << 30


def halves(count: int, dimension: int) -> Vectors:
    return unit(count, dimension).astype(np.float16).astype(np.float32)


def full_after(copies: int) -> Callable[[int], Any]:
    """What makes so many indexes and then fails as FAISS does where a GPU's memory is full."""
    left = [copies]

    def flat(dimension: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError(
                "Error in virtual void* allocMemory: StandardGpuResources: alloc fail type Flat"
            )
        return faiss.IndexFlatIP(dimension)

    return flat


@pytest.mark.parametrize(
    ("free", "fits"), [(2 * 1000 * 16 * 5 // 4, True), (2 * 1000 * 16 * 5 // 4 - 2, False)]
)
def test_a_fifth_of_the_memory_is_left(tmp_path: Path, free: int, fits: bool) -> None:
    assert (gpu.exactly(written(tmp_path, unit(1000, 16)), cpu_card(free)) is not None) == fits


@pytest.mark.parametrize("k", [1, 40])
@pytest.mark.parametrize("share", [None, 0.5, 0.01])
def test_the_card_gives_the_answers_of_brute_force(
    tmp_path: Path, k: int, share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "SHARD", 300)  # several
    monkeypatch.setattr(gpu, "FEW", 0)
    stored, queries = halves(4000, 32), unit(20, 32, seed=1)
    keep = None if share is None else selection(tmp_path, np.random.default_rng(2).random(4000) < share)
    index = gpu.exactly(written(tmp_path, stored), cpu_card(ENOUGH))
    assert index is not None
    for _ in range(2):  # the second time from the vectors that were gathered the first time
        scores, rows = index.search(queries, k, keep)
        expected = brute(stored, queries, k)[1] if keep is None else filtered(stored, queries, k, keep)
        assert rows.tolist() == expected.tolist()
        np.testing.assert_allclose(scores, np.take_along_axis(queries @ stored.T, rows, axis=1), atol=1e-6)


def test_the_cpu_gives_more_answers_than_a_gpu_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, cpu = unit(2, 16, seed=1), written(tmp_path, halves(3000, 16))
    index = gpu.exactly(cpu, cpu_card(ENOUGH))
    assert index is not None
    monkeypatch.setattr(index, "_found", lambda *_: pytest.fail("the card was asked"))
    assert index.search(queries, 2500)[1].tolist() == cpu.search(queries, 2500)[1].tolist()


def test_memory_that_is_full_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SHARD", 300)
    card = replace(cpu_card(ENOUGH), flat=full_after(2))
    assert gpu.exactly(written(tmp_path, unit(1000, 16)), card) is None


def test_another_fault_of_the_card_is_told(tmp_path: Path) -> None:
    def broken(dimension: int) -> Any:
        raise RuntimeError("CUDA error 209: no kernel image is available")

    with pytest.raises(RuntimeError, match="no kernel image"):
        gpu.exactly(written(tmp_path, unit(10, 16)), replace(cpu_card(ENOUGH), flat=broken))


def test_a_selection_that_has_no_room_is_searched_by_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "FEW", 0)
    stored, queries = halves(1000, 16), unit(5, 16, seed=1)
    keep = selection(tmp_path, np.arange(1000) % 2 == 0)
    index = gpu.exactly(written(tmp_path, stored), replace(cpu_card(ENOUGH), flat=full_after(1)))
    assert index is not None
    assert index.search(queries, 10, keep)[1].tolist() == filtered(stored, queries, 10, keep).tolist()


def test_cuda_without_a_gpu_is_refused_with_what_to_do() -> None:
    if getattr(faiss, "get_num_gpus", int)():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="faiss sees no GPU; use --device cpu") as refused:
        gpu.card_of("cuda")
    assert "\n" not in str(refused.value)


def test_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    assert (gpu.card_of("auto") is None) == (not getattr(faiss, "get_num_gpus", int)())
    assert gpu.card_of("cpu") is None


def on_gpu(folder: Path) -> ExactOnCard:
    card = gpu.card_of("cuda")
    found = card and gpu.exactly(gpu.VectorIndex(folder / "vectors.faiss"), card)
    assert found
    return found


@pytest.mark.gpu
@pytest.mark.parametrize(("count", "dimension", "k"), [(5000, 384, 10), (300_000, 64, 300), (3, 768, 3)])
def test_the_gpu_gives_the_answers_of_the_cpu(
    tmp_path: Path, count: int, dimension: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "SHARD", 100_000)
    stored, queries = unit(count, dimension), unit(64, dimension, seed=1)
    cpu = written(tmp_path, stored)
    scores, _ = cpu.search(queries, k)
    gpu_scores, gpu_rows = on_gpu(tmp_path).search(queries, k)
    np.testing.assert_allclose(gpu_scores, scores, atol=HALF)
    # Rows may change places only with rows of nearly the same score.
    own = np.array([cpu.score(query, found.tolist()) for query, found in zip(queries, gpu_rows, strict=True)])
    np.testing.assert_allclose(own, scores, atol=HALF)
    assert all(len(set(found)) == len(found) for found in gpu_rows.tolist())


@pytest.mark.gpu
@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001, 0.0001])
def test_a_selection_is_searched_as_if_it_were_all_on_a_gpu(tmp_path: Path, share: float) -> None:
    stored, queries = halves(100_000, 64), unit(64, 64, seed=1)
    keep = selection(tmp_path, np.random.default_rng(2).random(len(stored)) < share)
    written(tmp_path, stored)
    index = on_gpu(tmp_path)
    for _ in range(2):  # the second time from the vectors that were gathered the first time
        _, rows = index.search(queries, 100, keep)
        assert keep.mask[rows].all()
        expected = filtered(stored, queries, 100, keep)
        found = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), expected.tolist(), strict=True)]
        assert sum(found) >= 0.99 * expected.size


@pytest.mark.gpu
def test_the_free_memory_of_a_gpu_is_known() -> None:
    card = gpu.card_of("cuda")
    assert card
    assert 0 < card.free < 1 << 40
