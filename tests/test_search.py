"""The Searcher against brute force, with itself, over rebuilds and between threads."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest
import Stemmer
from conftest import Maker, write_corpus
from numpy.typing import NDArray

import indexer.candidates
import indexer.lexical
import indexer.search
import indexer.vectors
from data.contexts import Context
from data.errors import UserError
from data.filter import Filter
from data.paper import Paper
from indexer.build import build
from indexer.candidates import LEXICAL_WEIGHT, UNLEARNED_WEIGHT
from indexer.search import Hit, Searcher, UnknownPaper
from indexer.settings import RANKINGS, Settings
from indexer.store import Store
from model.encoder import Encoder
from model.text import query_text

CONTEXTS = [
    Context("Recurrent acoustic models [CITE] turn each utterance into text."),
    Context("We train on every client with noise on each gradient, as in [CITE] and [OTHER]."),
    Context("Self-play with tree search [CITE]"),
    Context("storm"),
    Context("Attention models for machine translation, part 3 [CITE]"),
]


@pytest.fixture
def small(small_index: Path, tiny: Encoder) -> Searcher:
    return Searcher(Settings(small_index, "cpu"), tiny)


def bm25_shares(papers: list[Paper], query: str) -> NDArray[np.float64]:
    """BM25 of every paper by bm25s's own index, as a share of the best; the title counts three times."""

    def words_of(texts: list[str]) -> list[list[str]]:
        stemmer = Stemmer.Stemmer("english")
        options = {"stopwords": "en", "stemmer": stemmer, "return_ids": False, "show_progress": False}
        return list(bm25s.tokenize(texts, **options))

    retriever = bm25s.BM25(k1=1.5, b=0.75)
    texts = [f"{paper.title} {paper.title} {paper.title} {paper.abstract}" for paper in papers]
    retriever.index(words_of(texts), show_progress=False)
    known = [word for word in words_of([query])[0] if word in retriever.vocab_dict]
    scores = np.asarray(retriever.get_scores(known) if known else np.zeros(len(texts)), np.float64)
    return scores / max(scores.max(), 1e-9)


def best(scores: NDArray[np.float64], count: int) -> set[int]:
    return {int(row) for row in np.argsort(-scores, kind="stable")[:count] if scores[row] > 0}


@pytest.fixture(scope="module")
def stored(searcher: Searcher, encoder: Encoder) -> NDArray[np.float64]:
    """The vectors of all papers, encoded again and rounded as an index rounds them."""
    return encoder.encode_papers(list(searcher.snapshot.papers)).astype(np.float16).astype(np.float64)


@pytest.mark.parametrize("candidates", [300, 20])
@pytest.mark.parametrize("context", CONTEXTS)
def test_hybrid_is_the_cosine_plus_the_share_of_bm25_over_both_s_candidates(
    context: Context,
    candidates: int,
    searcher: Searcher,
    encoder: Encoder,
    stored: NDArray[np.float64],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexer.candidates, "CANDIDATES", candidates)
    papers = list(searcher.snapshot.papers)
    cosines = stored @ encoder.encode_contexts([context])[0].astype(np.float64)
    shares = bm25_shares(papers, query_text(context))
    pool = best(cosines + 1, candidates) | best(shares, candidates)
    expected = cosines + LEXICAL_WEIGHT * shares  # of a paper that the cosine alone proposes, too
    order = sorted(pool, key=lambda row: -expected[row])[:10]

    hits = searcher.search([context], 10, "hybrid")[0]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, 11))
    tolerance = 5e-3 if encoder.precision == "bf16" else 1e-3
    np.testing.assert_allclose(scores, expected[order], atol=tolerance)
    rows = {paper.paper_id: row for row, paper in enumerate(papers)}
    for hit in hits:
        row = rows[hit.paper.paper_id]
        assert hit.score == pytest.approx(expected[row], abs=tolerance)
        assert hit.dense == pytest.approx(cosines[row], abs=tolerance)
        assert hit.bm25 == pytest.approx(shares[row], abs=1e-4)
        assert row in pool


def test_words_count_more_with_an_encoder_that_no_ranker_fits(small: Searcher, searcher: Searcher) -> None:
    for engine, weight in ((small, UNLEARNED_WEIGHT), (searcher, LEXICAL_WEIGHT)):
        for hit in engine.search(CONTEXTS[:1], 10, "hybrid")[0]:
            assert hit.dense is not None
            assert hit.bm25 is not None
            assert hit.score == pytest.approx(hit.dense + weight * hit.bm25, abs=1e-5)


def test_dense_and_bm25_alone_say_what_they_used(searcher: Searcher) -> None:
    dense = searcher.search(CONTEXTS[:1], 3, "dense")[0]
    assert all(hit.dense == hit.score and hit.bm25 is None for hit in dense)
    words = searcher.search(CONTEXTS[:1], 3, "bm25")[0]
    assert all(hit.dense is None and hit.bm25 is not None for hit in words)
    assert words[0].bm25 == pytest.approx(1)


def test_a_sentence_finds_papers_of_its_topic(searcher: Searcher) -> None:
    for text, topic in (
        ("Predicting precipitation from clouds on a sphere [CITE].", "weather"),
        ("The amino acid sequence determines the fold [CITE].", "proteins"),
        ("Robots that grasp with a gripper [CITE].", "robotics"),
    ):
        for ranking in ("dense", "hybrid"):
            hits = searcher.search([Context(text)], 5, ranking)[0]
            assert [hit.paper.paper_id.split("-")[0] for hit in hits] == [topic] * 5


def same(one: list[Hit], other: list[Hit]) -> None:
    """Equal papers in equal order, but for what a batch moves in the last bits of a float."""
    assert [hit.paper.paper_id for hit in one] == [hit.paper.paper_id for hit in other]
    np.testing.assert_allclose([h.score for h in one], [h.score for h in other], atol=1e-5)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_contexts_together_give_the_answers_of_each_alone(small: Searcher, ranking: str) -> None:
    together = small.search(CONTEXTS, 7, ranking)
    alone = [answer for context in CONTEXTS for answer in small.search([context], 7, ranking)]
    assert len(together) == len(CONTEXTS)
    for one, other in zip(together, alone, strict=True):
        same(one, other)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_the_same_question_has_the_same_answer(searcher: Searcher, ranking: str) -> None:
    assert searcher.search(CONTEXTS, 10, ranking) == searcher.search(CONTEXTS, 10, ranking)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_more_papers_than_there_are_gives_all_of_them_once(small: Searcher, ranking: str) -> None:
    hits = small.search([Context("models")], 1000, ranking)[0]
    assert len({hit.paper.paper_id for hit in hits}) == len(hits) == 30


@pytest.mark.parametrize("ranking", RANKINGS)
def test_no_contexts_have_no_answers(small: Searcher, ranking: str) -> None:
    assert small.search([], 5, ranking) == []


def test_bm25_lists_no_paper_that_shares_no_word(small: Searcher) -> None:
    answers = small.search([Context("zyzzyva"), Context("storm")], 30, "bm25")
    assert answers[0] == []
    assert 0 < len(answers[1]) < 30


def test_a_text_of_unknown_words_still_has_dense_answers(small: Searcher) -> None:
    hits = small.search([Context("zyzzyva")], 5)[0]
    assert len(hits) == 5
    assert [hit.bm25 for hit in hits] == [0] * 5


def test_equal_papers_stand_in_the_order_of_the_corpus(tiny: Encoder, tmp_path: Path) -> None:
    twins = [{"id": f"twin-{n}", "title": "The same title"} for n in range(6)]
    build(str(write_corpus(tmp_path / "c.jsonl", twins)), tmp_path / "index", tiny)
    small = Searcher(Settings(tmp_path / "index", "cpu"), tiny)
    for ranking in ("hybrid", "bm25"):
        hits = small.search([Context("the same title")], 4, ranking)[0]
        assert [hit.paper.paper_id for hit in hits] == ["twin-0", "twin-1", "twin-2", "twin-3"]


@pytest.mark.parametrize(
    ("k", "ranking", "named"),
    [(0, "bm25", "k is 0"), (-1, "dense", "k is -1"), (1001, None, "k is 1001"), (3, "magic", "'magic'")],
)
def test_a_wrong_question_is_refused(small: Searcher, k: int, ranking: str | None, named: str) -> None:
    with pytest.raises(UserError, match=named):
        small.search(CONTEXTS, k, ranking)


def test_k_and_ranking_come_from_the_settings(small_index: Path, tiny: Encoder) -> None:
    small = Searcher(Settings(small_index, "cpu", "bm25", 3), tiny)
    hits = small.search([Context("models for each")])[0]
    assert len(hits) == 3
    assert hits[0].dense is None


def test_a_hit_as_json_has_the_paper_and_its_address(tiny: Encoder, tmp_path: Path) -> None:
    paper = {"id": "1706.03762", "title": "Attention", "authors": ["A", "B"], "year": 2017, "versions": []}
    build(str(write_corpus(tmp_path / "c.jsonl", [paper])), tmp_path / "index", tiny)
    hit = Searcher(Settings(tmp_path / "index", "cpu"), tiny).search([Context("attention")])[0][0].as_dict()
    assert hit["url"] == "https://arxiv.org/abs/1706.03762"
    assert (hit["rank"], hit["title"], hit["authors"], hit["year"]) == (1, "Attention", ("A", "B"), 2017)
    assert {"score", "dense", "bm25"} <= set(hit)


def test_eight_threads_get_the_answers_of_one(small_index: Path, tiny: Encoder) -> None:
    questions = [(c, ranking) for ranking in RANKINGS for c in CONTEXTS] * 4
    count = len(questions) // 4
    expected = [
        Searcher(Settings(small_index, "cpu"), tiny).search([c], 5, r)[0] for c, r in questions[:count]
    ]
    shared = Searcher(Settings(small_index, "cpu"), tiny)  # its parts are loaded by the first threads
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda question: shared.search([question[0]], 5, question[1])[0], questions))
    for number, answer in enumerate(answers):
        same(answer, expected[number % count])


def test_threads_load_each_part_once(
    small_index: Path, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def noted(name: str, real: Any) -> Any:
        return lambda *arguments: loads.append(name) or real(*arguments)

    for home, name in (
        (indexer.vectors, "VectorIndex"),
        (indexer.lexical, "LexicalIndex"),
        (indexer.search, "Encoder"),
    ):
        monkeypatch.setattr(home, name, noted(name, getattr(home, name)))
    shared = Searcher(Settings(small_index, "cpu"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: shared.search(CONTEXTS[:1]), range(16)))
    assert sorted(loads) == ["Encoder", "LexicalIndex", "VectorIndex"]


def titled(path: Path, *titles: str) -> str:
    return str(write_corpus(path, [{"id": title.replace(" ", "-"), "title": title} for title in titles]))


def test_a_rebuild_is_taken_up_while_the_old_generation_is_served(tiny: Encoder, tmp_path: Path) -> None:
    source, root = tmp_path / "corpus.jsonl", tmp_path / "index"
    build(titled(source, "red trees", "blue lakes"), root, tiny)
    engine = Searcher(Settings(root, "cpu"), tiny)
    old = engine.snapshot
    served: list[list[str]] = []

    def progress(stage: str, done: int, total: int, unit: str) -> None:
        served.append([hit.paper.title for hit in engine.search([Context("lakes")], 5)[0]])

    generation, _ = build(titled(source, "green lakes"), root, tiny, progress=progress)
    assert generation.path.name == "000002"
    assert served
    assert all(sorted(titles) == ["blue lakes", "red trees"] for titles in served)
    assert engine.snapshot is old
    engine.reload()
    assert engine.snapshot.path == generation.path
    assert [hit.paper.title for hit in engine.search([Context("lakes")], 5)[0]] == ["green lakes"]
    ranked = engine.rank([Context("lakes")], 5, "hybrid", old)  # a search under way keeps its own
    assert {old.papers[row].title for row in ranked.rows[0]} == {"red trees", "blue lakes"}


def test_a_search_takes_up_a_rebuild_by_itself(tiny: Encoder, tmp_path: Path) -> None:
    root = tmp_path / "index"
    build(titled(tmp_path / "a.jsonl", "red trees"), root, tiny)
    engine = Searcher(Settings(root, "cpu"), tiny)
    build(titled(tmp_path / "b.jsonl", "green lakes"), root, tiny)
    assert [hit.paper.title for hit in engine.search([Context("lakes")])[0]] == ["green lakes"]


def test_a_rebuild_with_another_encoder_is_taken_up(tiny: Encoder, make_model: Maker, tmp_path: Path) -> None:
    root = tmp_path / "index"
    source = titled(tmp_path / "a.jsonl", "red trees", "green lakes")
    build(source, root, tiny)
    engine = Searcher(Settings(root, "cpu"))
    engine.search([Context("lakes")])
    build(source, root, Encoder(str(make_model("bert", 48)), "cpu"))
    hits = engine.search([Context("green lakes")], ranking="dense")[0]
    assert hits[0].paper.title == "green lakes"
    assert engine.snapshot.vectors.dimension == 48


def test_a_generation_that_is_gone_is_said_to_be(tiny: Encoder, tmp_path: Path) -> None:
    root = tmp_path / "index"
    source = titled(tmp_path / "a.jsonl", "red trees")
    build(source, root, tiny)
    engine = Searcher(Settings(root, "cpu"), tiny)
    shutil.rmtree(engine.snapshot.path)
    for ranking in ("bm25", "dense"):
        with pytest.raises(UserError, match="replaced by newer builds while in use; try again"):
            engine.rank([Context("trees")], 5, ranking)


def test_another_encoder_is_refused_with_both_fingerprints(
    small_index: Path, tiny: Encoder, make_model: Maker
) -> None:
    other = Encoder(str(make_model("bert", 32, seed=3)), "cpu")
    engine = Searcher(Settings(small_index, "cpu"), other)
    with pytest.raises(UserError) as refused:
        engine.search(CONTEXTS)
    message = str(refused.value)
    assert tiny.fingerprint in message
    assert other.fingerprint in message
    assert f"indexer build {engine.snapshot.manifest.source} --index {small_index}" in message
    assert "\n" not in message
    assert engine.search(CONTEXTS[:1], ranking="bm25")[0]  # words need no encoder


def test_an_encoder_that_changed_in_its_folder_is_refused(
    small_corpus: Path, make_model: Maker, tmp_path: Path
) -> None:
    folder = make_model("bert", 32)
    build(str(small_corpus), tmp_path / "index", Encoder(str(folder), "cpu"))
    shutil.copyfile(make_model("bert", 32, seed=9) / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(UserError, match="was built with encoder"):
        Searcher(Settings(tmp_path / "index", "cpu")).search(CONTEXTS)


def test_another_text_form_is_refused(small: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer.search, "TEXT_FORM", "2")
    with pytest.raises(UserError, match=r"was built with text form 1 .*, this is 2"):
        small.search(CONTEXTS)


def test_a_damaged_index_gives_no_answer(index: Path, encoder: Encoder, tmp_path: Path) -> None:
    root = tmp_path / "harmed"
    shutil.copytree(index, root)
    vectors = Store(root).open().path / "vectors.faiss"
    harmed = bytearray(vectors.read_bytes())
    harmed[len(harmed) // 2] ^= 64
    vectors.write_bytes(harmed)
    with pytest.raises(UserError, match=r"vectors\.faiss is damaged"):
        Searcher(Settings(root), encoder)


def test_papers_come_back_as_they_went_in(searcher: Searcher, papers: list[dict[str, Any]]) -> None:
    record = papers[2]
    hit = searcher.search([Context(record["title"])], 1, "bm25")[0][0]
    assert hit.paper == Paper(
        record["id"],
        record["title"],
        record["abstract"],
        tuple(record["authors"]),
        record["year"],
        tuple(record["categories"]),
    )


def test_a_paper_is_found_by_its_id_and_an_unknown_one_is_named(
    small: Searcher, papers: list[dict[str, Any]]
) -> None:
    for record in papers[::10]:
        assert small.paper(record["id"]).title == record["title"]
    with pytest.raises(UnknownPaper, match="no paper with the id 'nobody'"):
        small.paper("nobody")
    with pytest.raises(UnknownPaper):
        small.similar("nobody")


def test_similar_papers_are_the_nearest_by_brute_force_without_the_paper_itself(small: Searcher) -> None:
    table = list(small.snapshot.papers)
    stored = small.snapshot.vectors.stored(range(len(table)))
    assert stored.shape == (len(table), small.snapshot.manifest.dimension)
    for row in (0, 7, len(table) - 1):
        cosines = stored @ stored[row]
        order = [int(other) for other in np.argsort(-cosines, kind="stable") if other != row]
        hits = small.similar(table[row].paper_id, 5)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        np.testing.assert_allclose([hit.score for hit in hits], cosines[order[:5]], atol=1e-5)
        assert table[row].paper_id not in {hit.paper.paper_id for hit in hits}
    assert len(small.similar(table[0].paper_id, 1000)) == len(table) - 1
    with pytest.raises(UserError, match="k is 0"):
        small.similar(table[0].paper_id, 0)


FILTERS = [
    Filter(("cs",), 2005, 2015),
    Filter(authors=("Chen Brandt", "guneş")),
    Filter(until=2000),
    Filter(("eess.AS",), authors=("Nobody",)),
]


@pytest.mark.parametrize("keep", FILTERS)
@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_filtered_search_ranks_what_passes_as_the_whole_ranking_does(
    small: Searcher, ranking: str, keep: Filter
) -> None:
    passing = {paper.paper_id for paper in small.snapshot.papers if keep.keeps(paper)}
    for context in CONTEXTS:
        whole = {hit.paper.paper_id: hit for hit in small.search([context], 1000, ranking)[0]}
        for k in (1, 3, 1000):
            hits = small.search([context], k, ranking, keep)[0]
            expected = [paper for paper in whole if paper in passing]
            assert len(hits) == min(k, len(expected))
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            for hit in hits:
                assert hit.dense == pytest.approx(whole[hit.paper.paper_id].dense, abs=1e-6)
            if ranking not in ("best", "hybrid"):  # there a score depends on the best that passes
                assert [hit.paper.paper_id for hit in hits] == expected[:k]
    assert small.search(CONTEXTS, 5, ranking, Filter()) == small.search(CONTEXTS, 5, ranking)


def test_similar_papers_can_be_filtered(small: Searcher) -> None:
    paper = small.snapshot.papers[7]
    nearest = small.similar(paper.paper_id, 1000)
    keep = Filter(since=2010)
    expected = [hit.paper.paper_id for hit in nearest if keep.keeps(hit.paper)]
    assert 5 < len(expected) < len(nearest)
    assert [hit.paper.paper_id for hit in small.similar(paper.paper_id, 5, keep)] == expected[:5]
    assert small.similar(paper.paper_id, 5, Filter(until=1900)) == []


def test_the_rows_of_a_filter_are_found_once(small: Searcher) -> None:
    first = small.snapshot.select(Filter(("cs",)))
    assert first is small.snapshot.select(Filter(("cs",)))
    assert first is not small.snapshot.select(Filter(("math",)))
    assert small.snapshot.select(Filter()) is small.snapshot.select(None) is None


def test_a_searcher_that_does_not_follow_takes_up_a_new_generation_when_told(
    small_index: Path, small_corpus: Path, tiny: Encoder, tmp_path: Path
) -> None:
    root = tmp_path / "papers"
    shutil.copytree(small_index, root)
    searcher = Searcher(Settings(root, "cpu"), tiny, follow=False)
    searcher.snapshot.load()
    first = searcher.snapshot.path
    for _ in range(3):  # more builds than generations are kept: the first one's folder is gone
        build(str(small_corpus), root, tiny)
    assert not first.exists()
    assert searcher.search(CONTEXTS[:1], 3)[0]
    assert searcher.snapshot.path == first
    searcher.reload()
    assert searcher.snapshot.path == Store(root).current()
    assert searcher.search(CONTEXTS[:1], 3)[0]
