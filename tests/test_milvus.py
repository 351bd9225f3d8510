"""An index in Milvus Lite, held against FAISS on the same generation: the same hits, filters and all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import made_up_papers, write_corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import indexer.publish
import indexer.search
from data.contexts import Context
from data.errors import UserError
from data.filter import Filter, Selection
from data.table import PaperTable
from indexer import milvus
from indexer.build import build
from indexer.milvus import MilvusVectors, connect
from indexer.milvus_address import Address, NotPublished, parse
from indexer.publish import Publication, publish
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from indexer.store import Store
from indexer.vectors import VectorIndex
from model.encoder import Encoder

pytest.importorskip("milvus_lite", reason="milvus-lite is not installed: pip install 'citemark[milvus-lite]'")

CONTEXTS = [
    Context("Recurrent acoustic models [CITE] turn each utterance into text."),
    Context("We train on every client with noise on each gradient, as in [CITE] and [OTHER]."),
    Context("storm"),
    Context("Attention models for machine translation, part 3 [CITE]"),
]
FILTERS = [
    Filter(since=2010),
    Filter(until=2004),
    Filter(since=2003, until=2003),
    Filter(("cs",)),
    Filter(("cs.CL", "math")),
    Filter(authors=("Dvorak",)),
    Filter(authors=("Ada Dvořák", "brandt, c.")),
    Filter(("cs",), 2005, 2015, ("Ito",)),
    Filter(authors=("Nobody",)),
]


def quiet(stage: str, done: int, total: int, unit: str) -> None:
    pass


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("milvus") / "papers.db"


@pytest.fixture
def address(file: Path, request: pytest.FixtureRequest) -> Address:
    """A collection for each test, in the one file of them all."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return parse(f"milvus://{file}/{name}")


@pytest.fixture(scope="module")
def root(corpus_file: Path, tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 300 made-up papers by the tiny encoder."""
    root = tmp_path_factory.mktemp("index") / "papers"
    build(str(corpus_file), root, tiny)
    return root


@pytest.fixture(scope="module")
def published(root: Path, file: Path) -> Address:
    address = parse(f"milvus://{file}/papers")
    publish(root, address, None, quiet)
    return address


def over(root: Path, address: Address, encoder: Encoder) -> Searcher:
    return Searcher(Settings(root, "cpu", engine=str(address)), encoder)


@pytest.fixture(scope="module")
def here(root: Path, tiny: Encoder) -> Searcher:
    return Searcher(Settings(root, "cpu"), tiny)


@pytest.fixture(scope="module")
def there(root: Path, published: Address, tiny: Encoder) -> Searcher:
    return over(root, published, tiny)


def agree(one: Searcher, other: Searcher, ranking: str, keep: Filter | None = None, k: int = 10) -> None:
    """At least 99 of 100 papers are the same, and the scores in their order."""
    shared = total = 0
    for ours, theirs in zip(
        one.search(CONTEXTS, k, ranking, keep), other.search(CONTEXTS, k, ranking, keep), strict=True
    ):
        shared += len({h.paper.paper_id for h in ours} & {h.paper.paper_id for h in theirs})
        total += len(ours)
        np.testing.assert_allclose([h.score for h in theirs], [h.score for h in ours], atol=1e-4)
    assert shared >= 0.99 * total


@pytest.mark.parametrize("ranking", RANKINGS)
def test_every_ranking_finds_over_milvus_what_it_finds_here(
    here: Searcher, there: Searcher, ranking: str
) -> None:
    assert isinstance(there.snapshot.vectors, MilvusVectors)
    agree(here, there, ranking)
    agree(here, there, ranking, k=1000)


@pytest.mark.parametrize("keep", FILTERS, ids=repr)
def test_every_filter_keeps_over_milvus_what_it_keeps_here(
    here: Searcher, there: Searcher, keep: Filter
) -> None:
    for ranking in ("dense", "hybrid"):
        agree(here, there, ranking, keep)


NAMES = st.sampled_from(
    [
        "Brandt",
        "Dvořák",
        "dvorak",
        "Ito",
        "A. Ito",
        "Ada Brandt",
        "B Castro",
        "Björn Castro",
        "Nobody",
        'O"Neil\\',
    ]
)
YEARS = st.none() | st.integers(1995, 2030)
CATEGORIES = st.sampled_from(["cs", "cs.CL", "cs.", "c", "q-fin", "q-fin.ST", "math.ST", 'x"y', "x\\"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keep=st.builds(
        Filter,
        st.lists(CATEGORIES, max_size=3).map(tuple),
        YEARS,
        YEARS,
        st.lists(NAMES, max_size=2).map(tuple),
    ).filter(bool)
)
def test_a_filter_lets_just_those_rows_pass_that_it_keeps(there: Searcher, keep: Filter) -> None:
    papers, vectors = there.snapshot.papers, there.snapshot.vectors
    _, rows = vectors.search(vectors.stored([5]), len(papers), Selection(papers, keep))
    assert sorted(row for row in rows[0].tolist() if row >= 0) == np.flatnonzero(keep.mask(papers)).tolist()


@pytest.mark.parametrize("kind", ["hnsw", "hnsw-sq"])
def test_an_approximate_index_is_built_and_searched_by_its_own_parameters(
    root: Path, tiny: Encoder, here: Searcher, address: Address, kind: str
) -> None:
    assert publish(root, address, kind, quiet).kind == kind
    found = over(root, address, tiny)
    shared = 0
    for ours, theirs in zip(
        here.search(CONTEXTS, 10, "dense"), found.search(CONTEXTS, 10, "dense"), strict=True
    ):
        shared += len({h.paper.paper_id for h in ours} & {h.paper.paper_id for h in theirs})
    assert shared >= (0.99 if kind == "hnsw" else 0.9) * 10 * len(CONTEXTS)


def test_similar_papers_and_stored_vectors_are_the_same(here: Searcher, there: Searcher) -> None:
    rows = [299, 0, 17, 0]
    np.testing.assert_array_equal(there.snapshot.vectors.stored(rows), here.snapshot.vectors.stored(rows))
    assert there.snapshot.vectors.stored([]).shape == (0, 32)
    for keep in (None, Filter(("cs",))):
        ours, theirs = (s.similar("speech-03", 5, keep) for s in (here, there))
        assert [hit.paper for hit in theirs] == [hit.paper for hit in ours]


def test_no_query_has_no_answer_and_a_wrong_one_is_refused(there: Searcher) -> None:
    assert there.search([], 5) == []
    vectors = there.snapshot.vectors
    with pytest.raises(UserError, match=r"shape \(1, 8\) for an index of 32 dimensions"):
        vectors.search(np.zeros((1, 8), np.float32), 3)
    with pytest.raises(UserError, match="not finite"):
        vectors.search(np.full((1, 32), np.nan, np.float32), 3)


@pytest.fixture
def namesakes(tiny: Encoder, tmp_path: Path) -> Path:
    """Forty papers by Ada Chen and three by Anna Chen: alike to Milvus, not to the filter."""
    papers = made_up_papers()[:43]
    for number, paper in enumerate(papers):
        paper["authors"] = ["Anna Chen" if number % 20 == 2 else "Ada Chen", "Emre Ito"]
    build(str(write_corpus(tmp_path / "c.jsonl", papers)), tmp_path / "index", tiny)
    return tmp_path / "index"


def test_an_author_is_found_behind_many_namesakes(namesakes: Path, tiny: Encoder, address: Address) -> None:
    publish(namesakes, address, None, quiet)
    found = over(namesakes, address, tiny)
    for keep in (Filter(authors=("Anna Chen",)), Filter(authors=("Chen, Anna",))):
        for hits in found.search(CONTEXTS, 3, "dense", keep):
            assert [hit.paper.authors[0] for hit in hits] == ["Anna Chen"] * 3
    assert len(found.search(CONTEXTS[:1], 50, "dense", Filter(authors=("A. Chen",)))[0]) == 43


def test_papers_of_more_authors_than_a_field_holds_are_found_by_each(
    namesakes: Path, tiny: Encoder, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "LISTED", 3)  # two authors have four keys
    publish(namesakes, address, None, quiet)
    found = over(namesakes, address, tiny)
    assert len(found.search(CONTEXTS[:1], 50, "dense", Filter(authors=("Anna Chen",)))[0]) == 3
    assert found.search(CONTEXTS[:1], 50, "dense", Filter(authors=("Nobody",))) == [[]]


# Publication: atomic, resumable, and refused where it is not this index.


def test_a_second_publication_sends_and_drops_nothing(root: Path, published: Address) -> None:
    before = connect(published).list_collections()
    again = publish(root, published, None, quiet)
    assert (again.sent, again.papers, again.kind) == (0, 300, "flat")
    assert connect(published).list_collections() == before


class Cut(Exception):
    """What stands for the kill."""


def cut_after(papers: int) -> Callable[..., None]:
    def progress(stage: str, done: int, total: int, unit: str) -> None:
        if stage == "sending" and done >= papers:
            raise Cut

    return progress


def test_an_interrupted_publication_goes_on_and_is_seen_when_whole(
    root: Path, tiny: Encoder, here: Searcher, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.publish, "BATCH", 64)
    with pytest.raises(Cut):
        publish(root, address, None, cut_after(128))
    with pytest.raises(NotPublished, match="nothing was published at milvus://"):
        over(root, address, tiny).search(CONTEXTS, 5, "dense")
    assert publish(root, address, None, quiet).sent == 300 - 128
    agree(here, over(root, address, tiny), "hybrid")


@pytest.mark.parametrize("batches", [1, 2])
def test_a_batch_that_arrived_in_part_is_sent_again(
    root: Path,
    tiny: Encoder,
    here: Searcher,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    monkeypatch.setattr(indexer.publish, "BATCH", 100)
    with pytest.raises(Cut):
        publish(root, address, None, cut_after(100 * batches))
    client = connect(address)
    (unfinished,) = [name for name in client.list_collections() if name.startswith(f"{address.collection}_")]
    client.delete(unfinished, ids=list(range(100 * batches - 50, 100 * batches)))
    assert publish(root, address, None, quiet).sent == 400 - 100 * batches
    agree(here, over(root, address, tiny), "dense", k=300)


@pytest.fixture
def two(tiny: Encoder, tmp_path: Path) -> Callable[[int], Path]:
    """two(n) builds the n-th generation of an index, each of other papers."""

    def make(number: int) -> Path:
        papers: list[dict[str, Any]] = made_up_papers()[number * 20 : number * 20 + 20]
        build(str(write_corpus(tmp_path / f"{number}.jsonl", papers)), tmp_path / "index", tiny)
        return tmp_path / "index"

    return make


def test_the_old_generation_answers_until_the_new_one_is_published(
    two: Callable[[int], Path], tiny: Encoder, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.search, "PATIENCE", 0.0)
    root = two(0)
    first = publish(root, address, None, quiet)
    reader = over(root, address, tiny)

    def papers() -> set[str]:
        return {hit.paper.paper_id for hit in reader.search(CONTEXTS[:1], 20, "dense")[0]}

    old = papers()
    two(1)
    assert papers() == old
    with pytest.raises(
        NotPublished, match=r"holds corpus \w+, the index \w+; publish it with: indexer publish"
    ):
        over(root, address, tiny).search(CONTEXTS, 5, "dense")
    second = publish(root, address, None, quiet)
    assert not papers() & old
    assert second.collection != first.collection


def test_publications_older_than_the_one_before_are_dropped_and_nothing_else(
    two: Callable[[int], Path], address: Address
) -> None:
    client = connect(address)
    foreign = f"{address.collection}_0123456789ab_flat"
    client.create_collection(foreign, dimension=8)
    made: list[Publication] = [publish(two(n), address, None, quiet) for n in range(3)]
    left = {name for name in client.list_collections() if name.startswith(f"{address.collection}_")}
    assert left == {foreign, made[1].collection, made[2].collection}


def test_a_collection_of_someone_else_is_not_touched(root: Path, address: Address) -> None:
    connect(address).create_collection(address.collection, dimension=8)
    with pytest.raises(UserError, match="is a collection of its own, not made by publish"):
        publish(root, address, None, quiet)


def test_an_index_by_another_encoder_is_refused_with_both_fingerprints(
    small_corpus: Path, make_model: Callable[..., Path], tiny: Encoder, address: Address, tmp_path: Path
) -> None:
    for name, encoder in (("ours", tiny), ("theirs", Encoder(str(make_model("bert", 32, seed=5)), "cpu"))):
        build(str(small_corpus), tmp_path / name, encoder)
    publish(tmp_path / "theirs", address, None, quiet)
    with pytest.raises(NotPublished) as refused:
        over(tmp_path / "ours", address, tiny).search(CONTEXTS, 5)
    theirs = Store(tmp_path / "theirs").open().manifest.encoder_fingerprint
    assert f"holds encoder {theirs}, the index {tiny.fingerprint}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_index_is_not_published(root: Path, address: Address, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "harmed")
    vectors = Store(tmp_path / "harmed").open().path / "vectors.faiss"
    harmed = bytearray(vectors.read_bytes())
    harmed[len(harmed) // 2] ^= 64
    vectors.write_bytes(harmed)
    with pytest.raises(UserError, match=r"vectors\.faiss is damaged"):
        publish(tmp_path / "harmed", address, None, quiet)
    assert not connect(address).has_collection(address.collection)


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"milvus://127\.0\.0\.1:1/papers: Fail connecting") as refused:
        connect(parse("milvus://127.0.0.1:1/papers"))
    assert "\n" not in str(refused.value)


def test_the_commands_publish_and_search(invoke: Callable[..., Result], root: Path, address: Address) -> None:
    done = invoke("publish", "--index", root, "--to", address, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == 300
    again = invoke("publish", "--index", root, "--to", address)
    assert "all there already" in again.stdout
    assert f"--engine {address}" in again.stdout
    question = ("search", "storm clouds [CITE]", "--index", root, "--device", "cpu", "--since", "2010")
    local = invoke(*question)
    assert local.exit_code == 0, local.stderr
    assert local.stdout
    assert invoke(*question, "--engine", address).stdout == local.stdout
    assert invoke(*question, env={"CITEMARK_ENGINE": str(address)}).stdout == local.stdout


def test_the_vectors_of_a_file_are_those_of_faiss(root: Path, published: Address) -> None:
    generation = Store(root).open()
    exact = VectorIndex(generation.path / "vectors.faiss")
    there = MilvusVectors(published, generation.manifest, PaperTable(generation.path / "papers.arrow"), root)
    queries = np.random.default_rng(3).standard_normal((50, exact.dimension)).astype(np.float32)
    scores, rows = exact.search(queries, 10)
    their_scores, their_rows = there.search(queries, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, their_rows, strict=True)]) >= 0.99
    np.testing.assert_allclose(their_scores, scores, atol=1e-3)
    np.testing.assert_allclose(there.score(queries[0], rows[0].tolist()), scores[0], atol=1e-3)
