"""The lists against NumPy's brute force: recall with and without filters, and what an update keeps."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import cpu_card, write_corpus
from numpy.typing import NDArray

from data.contexts import Context
from data.errors import UserError
from data.filter import Filter, Selection
from data.paper import Paper
from data.table import PaperTable, PaperWriter
from indexer import kinds, nearest, vectors
from indexer.build import build
from indexer.nearest import Effort, Lists
from indexer.search import Searcher
from indexer.settings import LEAST_RECALL, Settings
from indexer.store import Store
from indexer.update import Change, update
from indexer.vectors import VectorIndex
from model.encoder import Encoder, Vectors

COUNT, DIMENSION, K = 20_000, 16, 100
SHARES = (0.8, 0.5, 0.3, 0.05, 0.01, 0.001, 0.0001)


def clustered(count: int, seed: int) -> Vectors:
    """Unit vectors between 100 topics, each of three of them, as those of papers are."""
    topics = np.random.default_rng(7).normal(size=(100, DIMENSION))
    rng = np.random.default_rng(seed)
    mixed = topics[rng.integers(100, size=(count, 3))] * rng.dirichlet((1, 1, 1), count)[:, :, None]
    drawn = mixed.sum(axis=1) + 0.15 * rng.normal(size=(count, DIMENSION))
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.ascontiguousarray(unit.astype(np.float16).astype(np.float32))


def brute(stored: Vectors, queries: Vectors, k: int) -> NDArray[np.int64]:
    return np.argsort(-(queries @ stored.T), axis=1, kind="stable")[:, :k]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vectors, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lists")
    stored = clustered(COUNT, 0)
    vectors.write(folder / "vectors.faiss", DIMENSION, [stored])
    facts = kinds.write(folder, "lists", None, lambda: clustered(100, 1), lambda *_: None)
    return folder, stored, facts


@pytest.fixture(scope="module")
def lists(made: tuple[Path, Vectors, dict[str, Any]]) -> Lists:
    folder, _, facts = made
    opened = kinds.opened(folder, facts, None)
    assert isinstance(opened, Lists)
    return opened


def selection(folder: Path, mask: Sequence[bool] | NDArray[np.bool_]) -> Selection:
    with PaperWriter(folder / "papers.arrow") as writer:
        for allowed in mask:
            writer.add(Paper("x", "A title", year=2001 if allowed else 2000))
    return Selection(PaperTable(folder / "papers.arrow"), Filter(since=2001))


@pytest.mark.parametrize(
    ("asked", "count", "free", "kind"),
    [
        ("auto", kinds.EXACT_UP_TO, None, "exact"),
        ("auto", kinds.EXACT_UP_TO + 1, None, "lists"),
        ("auto", 10_000_000, 10_000_000_000, "exact"),  # 7.7 GB of vectors in 8 GB
        ("auto", 11_000_000, 10_000_000_000, "lists"),
        ("auto", kinds.EXACT_UP_TO, 0, "exact"),
        ("exact", 10**9, None, "exact"),
        ("lists", 10, 10_000_000_000, "lists"),
    ],
)
def test_size_and_memory_choose_the_kind(asked: kinds.Kind, count: int, free: int | None, kind: str) -> None:
    assert kinds.chosen(asked, count, 384, None if free is None else cpu_card(free)) == kind


@pytest.mark.parametrize("k", [1, 10, K, 300, 1000])
@pytest.mark.parametrize("together", [1, 40])
def test_nearly_all_of_the_exact_answers_are_found(
    made: tuple[Path, Vectors, dict[str, Any]], lists: Lists, k: int, together: int
) -> None:
    queries = clustered(40, 2)
    found = [lists.search(queries[n : n + together], k) for n in range(0, 40, together)]
    scores, rows = (np.concatenate(part) for part in zip(*found, strict=True))
    assert scores.shape == rows.shape == (40, k)
    assert nearest.share(rows, brute(made[1], queries, k)) >= LEAST_RECALL
    own = np.take_along_axis(queries @ made[1].T, rows, axis=1)
    np.testing.assert_allclose(scores, own, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == k for row in rows.tolist())


def test_less_than_all_of_the_rows_are_walked_through(made: tuple[Path, Vectors, dict[str, Any]]) -> None:
    """Else the recall would say nothing."""
    (first, second) = (Effort(**effort) for effort in made[2]["efforts"])
    assert (first.k, second.k) == nearest.KS
    assert first.depth < first.rows < COUNT / 2


def test_the_recall_that_is_written_is_the_recall_that_is_found(
    made: tuple[Path, Vectors, dict[str, Any]], lists: Lists
) -> None:
    queries = clustered(200, 3)
    measured = nearest.share(lists.search(queries, K)[1], brute(made[1], queries, K))
    assert made[2]["recall"] == pytest.approx(measured, abs=0.006)


@pytest.mark.parametrize("together", [1, 20])
@pytest.mark.parametrize("share", SHARES)
def test_a_filter_costs_no_recall(
    made: tuple[Path, Vectors, dict[str, Any]], lists: Lists, tmp_path: Path, share: float, together: int
) -> None:
    mask = np.random.default_rng(4).random(COUNT) < share
    mask[5] = True  # of the smallest share one is left
    keep, queries = selection(tmp_path, mask), clustered(20, 5)
    found = [lists.search(queries[n : n + together], K, keep)[1] for n in range(0, 20, together)]
    rows = np.concatenate(found)
    assert rows.shape == (20, min(K, len(keep)))
    assert mask[rows].all()
    assert nearest.share(rows, keep.rows[brute(made[1][keep.rows], queries, K)]) >= LEAST_RECALL


def test_a_filter_of_what_is_far_from_the_query_costs_no_recall(
    made: tuple[Path, Vectors, dict[str, Any]], lists: Lists, tmp_path: Path
) -> None:
    """As when a sentence on one field asks for papers of another: the nearest lists hold none of them."""
    queries = clustered(1, 6)
    far = queries[0] @ made[1].T
    keep = selection(tmp_path, far < np.quantile(far, 0.6))
    assert len(keep) > max(effort["rows"] for effort in made[2]["efforts"])
    _, rows = lists.search(queries, K, keep)
    assert keep.mask[rows].all()
    assert nearest.share(rows, keep.rows[brute(made[1][keep.rows], queries, K)]) >= LEAST_RECALL


def test_queries_are_checked_as_for_the_exact_index(lists: Lists) -> None:
    with pytest.raises(UserError, match=f"for an index of {DIMENSION} dimensions"):
        lists.search(np.zeros((1, 3), np.float32), 3)
    assert lists.search(np.zeros((0, DIMENSION), np.float32), 3)[1].shape == (0, 3)


def test_an_effort_that_cannot_reach_the_recall_says_so(
    made: tuple[Path, Vectors, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "DEPTHS", (1.0,))  # the codes alone: no exact vectors to order by
    monkeypatch.setattr(nearest, "COVERED", (0.5,))
    exact = VectorIndex(made[0] / "vectors.faiss")
    assert nearest.write(tmp_path / "short", exact, clustered(20, 1))["recall"] < LEAST_RECALL


def test_a_build_with_lists_answers_as_an_exact_one(
    small_corpus: Path, tiny: Encoder, tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    generation, _ = build(str(small_corpus), tmp_path / "lists", tiny, kind="lists")
    build(str(small_corpus), tmp_path / "exact", tiny)
    assert (generation.manifest.vectors["kind"], generation.manifest.vectors["asked"]) == ("lists", "lists")
    contexts = [Context("Recurrent acoustic models [CITE]"), Context("novel lakes of protein")]
    both = [
        Searcher(Settings(tmp_path / name, "cpu"), tiny).search(contexts, ranking="dense")
        for name in ("lists", "exact")
    ]
    assert [[hit.paper for hit in hits] for hits in both[0]] == [
        [hit.paper for hit in hits] for hits in both[1]
    ]
    shown = invoke("info", "--index", tmp_path / "lists").stdout
    assert "rows walked through" in shown
    assert "recall@" in shown
    assert "exactly" in invoke("info", "--index", tmp_path / "exact").stdout
    assert "recall@" in invoke("check", "--index", tmp_path / "lists").stdout
    assert json.loads(invoke("info", "--json", "--index", tmp_path / "lists").stdout)["vectors"]["recall"] > 0


def test_an_update_keeps_the_kind_the_centres_and_the_queries(
    small_corpus: Path, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "index"
    build(str(small_corpus), root, tiny, kind="lists")
    before = shutil.copytree(Store(root).open().path, tmp_path / "before")
    monkeypatch.setattr(nearest, "_trained", lambda *_: pytest.fail("learned the centres anew"))
    gone = PaperTable(before / "papers.arrow")[3].paper_id
    generation, counts, _ = update(root, Change(remove=(gone,)))
    assert counts.withdrawn == 1
    assert generation.manifest.vectors["kind"] == "lists"
    opened = kinds.opened(generation.path, generation.manifest.vectors, None)
    assert len(opened) == generation.manifest.papers
    _, rows = opened.search(opened.stored(range(len(opened))), 1)
    assert rows[:, 0].tolist() == list(range(len(opened)))
    queries = [(folder / "lists" / "queries.npy").read_bytes() for folder in (before, generation.path)]
    assert queries[0] == queries[1]
    exact = VectorIndex(generation.path / "vectors.faiss")
    kept = nearest.answers_of(generation.path / "lists", exact)
    assert kept.tolist() == exact.search(nearest.queries_of(generation.path / "lists"), 300)[1].tolist()


def test_an_index_of_exact_vectors_gets_lists_when_it_outgrows_them(
    small_corpus: Path, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "index"
    generation, _ = build(str(small_corpus), root, tiny)
    assert generation.manifest.vectors == {"kind": "exact", "asked": "auto"}
    monkeypatch.setattr(kinds, "EXACT_UP_TO", generation.manifest.papers)
    more = write_corpus(tmp_path / "more.jsonl", [{"id": "new", "title": "A new paper"}])
    generation, _, _ = update(root, Change(str(more)), tiny)
    assert generation.manifest.vectors["kind"] == "lists"
