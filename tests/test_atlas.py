"""The map of a corpus: where its points lie, when they stay, and the file that holds them."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import write_corpus
from sklearn.manifold import trustworthiness

from data.errors import UserError
from data.table import PaperTable
from indexer import atlas
from indexer.atlas import FEW, STEPS, Map, add, place, project, read, sample
from indexer.build import build, silent
from indexer.search import Searcher
from indexer.settings import Settings
from indexer.store import MAP, Store, build_arguments
from indexer.update import Change, update
from model.encoder import Encoder

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def mapped(corpus_file: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the made-up papers with its map. Copy it before you harm it."""
    root = tmp_path_factory.mktemp("mapped") / "papers"
    build(str(corpus_file), root, encoder, with_map=True)
    return root


@pytest.fixture(scope="session")
def engine(mapped: Path, encoder: Encoder) -> Searcher:
    return Searcher(Settings(mapped), encoder)


def map_of(root: Path) -> Map:
    return read(Store(root).open().path)


@pytest.fixture
def small_map(small_corpus: Path, tiny: Encoder, tmp_path: Path) -> Path:
    """An index of 30 papers with its map, to be changed."""
    root = tmp_path / "index"
    build(str(small_corpus), root, tiny, with_map=True)
    return root


def test_papers_near_each_other_are_alike(engine: Searcher) -> None:
    known = engine.snapshot.map
    assert known is not None
    assert known.rows.tolist() == list(range(known.papers)) == list(range(300))
    vectors = engine.snapshot.vectors.stored(known.rows)
    assert trustworthiness(vectors, known.points, n_neighbors=10) > 0.9
    names = np.array([paper.categories[0] for paper in engine.snapshot.papers])
    distances = np.linalg.norm(known.points[:, None] - known.points, axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:6]
    assert (names[nearest] == names[:, None]).mean() > 0.9


def test_the_same_vectors_give_the_same_points() -> None:
    vectors = np.random.default_rng(1).normal(size=(60, 20)).astype(np.float32)
    first = project(vectors, silent)
    assert first.shape == (60, 2)
    assert np.array_equal(first, project(vectors, silent))
    assert np.allclose(first.mean(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, FEW])
def test_a_corpus_of_a_few_papers_has_a_map(count: int) -> None:
    points = project(np.eye(max(count, 3), dtype=np.float32)[:count], silent)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_the_steps_are_told_while_it_is_drawn() -> None:
    told: list[tuple[str, int, int]] = []
    vectors = np.random.default_rng(1).normal(size=(60, 20)).astype(np.float32)
    project(vectors, lambda stage, done, total, _: told.append((stage, done, total)))
    assert {(stage, total) for stage, _, total in told} == {("map", STEPS)}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert done[-1] == STEPS


def test_a_sample_is_of_papers_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "SAMPLED", 20)
    names = [f"bib:{number}" for number in range(200)]
    rows = sample(names)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == 20
    backwards = sample(names[::-1])
    assert {names[row] for row in rows} == {names[::-1][row] for row in backwards}
    more = sample([*names, "bib:new"])
    assert len(set(rows.tolist()) & set(more.tolist())) >= 19


def test_a_sampled_paper_is_placed_where_it_is_and_another_amid_its_like(engine: Searcher) -> None:
    whole = engine.snapshot.map
    assert whole is not None
    part = Map(whole.rows[::2], whole.points[::2], whole.papers)
    assert np.array_equal(place(part, engine.snapshot.vectors, [4, 0]), whole.points[[4, 0]])
    others = whole.rows[1::2].tolist()
    apart = np.linalg.norm(place(part, engine.snapshot.vectors, others) - whole.points[others], axis=1)
    across = np.linalg.norm(whole.points[:, None] - whole.points, axis=2)
    assert np.median(apart) < np.median(across) / 5
    assert place(part, engine.snapshot.vectors, []).shape == (0, 2)


# In the index


def test_a_build_without_a_map_has_none(index: Path, encoder: Encoder) -> None:
    generation = Store(index).open()
    assert not generation.manifest.mapped
    assert "--map" not in build_arguments(index, generation.manifest)
    assert Searcher(Settings(index), encoder).snapshot.map is None


def test_the_command_adds_the_map_that_a_build_draws(
    small_map: Path, small_corpus: Path, tiny: Encoder, tmp_path: Path, invoke: Invoke
) -> None:
    root = tmp_path / "later"
    build(str(small_corpus), root, tiny)
    follower = Searcher(Settings(root), tiny)
    before = Store(root).open().manifest
    said = invoke("map", "--index", root)
    assert said.stdout == f"map of 30 of 30 papers at {root}\n", said.output
    after = Store(root).open()
    assert after.path.name == "000002"
    assert after.manifest.files[MAP] == Store(small_map).open().manifest.files[MAP]
    assert {name: file for name, file in after.manifest.files.items() if name != MAP} == before.files
    assert after.manifest.created == before.created
    follower.reload()
    assert follower.snapshot.map is not None
    assert invoke("map", "--index", root).exit_code == 0
    assert Store(root).current() == after.path


def test_a_map_needs_no_links(small_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path, target: Path) -> None:
        raise PermissionError(f"no links to {target} here")

    root = shutil.copytree(small_index, tmp_path / "index")
    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert add(root, silent).manifest.mapped
    assert Store(root).open().path.name == "000002"


def test_a_map_of_no_index_says_how_to_build_one(tmp_path: Path, invoke: Invoke) -> None:
    said = invoke("map", "--index", tmp_path / "none")
    assert said.exit_code == 1
    assert said.stderr.count("\n") == 1
    assert "indexer build" in said.stderr
    assert not (tmp_path / "none").exists()


def test_a_rebuild_keeps_a_map(small_map: Path, invoke: Invoke) -> None:
    arguments = build_arguments(small_map, Store(small_map).open().manifest)
    assert arguments[-1] == "--map"
    assert invoke(*arguments).exit_code == 0
    assert Store(small_map).open().path.name == "000002"
    assert len(map_of(small_map).rows) == 30


def changed(papers: Sequence[dict[str, Any]], path: Path, **fields: Any) -> Path:
    return write_corpus(path, [papers[0] | fields])


def test_points_stay_over_an_update_that_leaves_the_vectors(
    small_map: Path,
    papers: list[dict[str, Any]],
    tmp_path: Path,
    tiny: Encoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = map_of(small_map)
    monkeypatch.setattr(atlas, "project", None)  # called, it would fail
    update(small_map, Change(str(changed(papers, tmp_path / "u.jsonl", authors=["New Author"]))), tiny)
    after = map_of(small_map)
    assert np.array_equal(after.points, before.points)


def test_an_update_of_the_sample_draws_the_map_anew(
    small_map: Path, papers: list[dict[str, Any]], tmp_path: Path, tiny: Encoder
) -> None:
    update(
        small_map,
        Change(remove=tuple(PaperTable(Store(small_map).open().path / "papers.arrow").ids()[:1])),
        tiny,
    )
    assert len(map_of(small_map).rows) == 29
    update(small_map, Change(str(changed(papers, tmp_path / "u.jsonl", title="Quite another"))), tiny)
    after = map_of(small_map)
    assert after.rows.tolist() == list(range(30))
    assert after.papers == 30


def test_a_damaged_map_is_named(small_map: Path) -> None:
    (file,) = small_map.rglob(MAP)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UserError, match=re.escape(f"{file} is damaged")):
        Store(small_map).open()


def test_a_map_of_other_papers_is_refused(small_map: Path, tiny: Encoder, tmp_path: Path) -> None:
    store = Store(small_map)
    current = store.open()
    few = write_corpus(tmp_path / "few.jsonl", [{"id": "bib:a", "title": "A title"}])
    build(str(few), tmp_path / "few", tiny, with_map=True)
    with store.writing():
        store.take_over(current)
        (store.next / MAP).unlink()
        (store.next / MAP).write_bytes((Store(tmp_path / "few").open().path / MAP).read_bytes())
        store.publish(current.manifest)
    snapshot = Searcher(Settings(small_map), tiny).snapshot
    with pytest.raises(UserError, match=r"says papers 30, map\.arrow has 1; build the index again"):
        _ = snapshot.map


def test_info_counts_the_map_and_check_opens_it(small_map: Path, invoke: Invoke) -> None:
    facts = json.loads(invoke("info", "--json", "--index", small_map).stdout)
    assert facts["papers"] == 30
    assert invoke("check", "--index", small_map).exit_code == 0
