"""The second stage: what a reranker may move and what it leaves; how it is asked for, fitted and measured."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from data.contexts import Context, Query
from data.errors import UserError
from data.filter import Filter
from indexer.candidates import FEATURES
from indexer.evaluate import evaluate, rows_for
from indexer.report import page, table
from indexer.rerank import reranked
from indexer.search import Hit, Searcher
from indexer.settings import RANKINGS, Settings
from model import ranker
from model.blend import FILE, Blend
from model.encoder import Encoder
from model.reranker import Reranker, headed

CONTEXTS = [
    Context("Graphs are learned by message passing [CITE]."),
    Context("As [OTHER] and [CITE] say, storms are forecast."),
    Context("Sentences are translated with attention [CITE]."),
]
DEPTH = 8


@pytest.fixture(scope="module")
def folder(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new reranker of the tiny encoder, fitted to its index by hand."""
    folder = tmp_path_factory.mktemp("reranker") / "new"
    headed(Encoder(tiny.name, "cpu", "fp32")).save_pretrained(str(folder), create_model_card=False)
    fitted(folder, tiny).save(folder)
    return folder


def fitted(folder: Path, tiny: Encoder) -> Blend:
    return Blend(0.9, 1.2, -0.1, 0.05, tiny.fingerprint, Reranker(str(folder), "cpu").fingerprint)


@pytest.fixture(scope="module")
def ranker_file(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ranker") / "tiny.safetensors"
    replace(ranker.load(None, FEATURES), encoder=tiny.fingerprint).save(file)
    return file


@pytest.fixture(scope="module")
def settings(small_index: Path, folder: Path, ranker_file: Path) -> Settings:
    return Settings(small_index, "cpu", ranker=ranker_file, reranker=folder, rerank_depth=DEPTH)


@pytest.fixture(scope="module")
def second(settings: Settings, tiny: Encoder) -> Searcher:
    return Searcher(settings, tiny)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.paper.paper_id for hit in hits]


def test_each_row_gets_the_logit_of_its_pair(second: Searcher, folder: Path) -> None:
    reranker = Reranker(str(folder), "cpu", "fp32")
    papers = second.snapshot.papers
    rows = second.rank(CONTEXTS, 5, "dense").rows.copy()
    rows[1, 3:] = -1
    logits = reranked(reranker, CONTEXTS, rows, papers)
    assert logits.shape == rows.shape
    assert np.isneginf(logits[1, 3:]).all()
    for query, place in ((0, 0), (0, 4), (1, 2)):
        paper = papers[int(rows[query, place])]
        assert np.isclose(logits[query, place], reranker.score([CONTEXTS[query]], [paper])[0], atol=1e-4)


def test_what_is_known_is_not_read_again(second: Searcher, folder: Path) -> None:
    known = {(CONTEXTS[0], 3): -77.0}
    rows = np.array([[3, 5, 3], [3, 5, -1]])
    logits = reranked(Reranker(str(folder), "cpu", "fp32"), CONTEXTS, rows, second.snapshot.papers, known)
    assert logits[0].tolist() == [-77.0, known[CONTEXTS[0], 5], -77.0]
    assert logits[1, :2].tolist() == [known[CONTEXTS[1], 3], known[CONTEXTS[1], 5]]
    assert len(set(known.values())) == 4


def test_the_first_hits_change_their_order_and_no_other_does(second: Searcher, folder: Path) -> None:
    first, again = (second.rank(CONTEXTS, 25, stage) for stage in ("best", "reranked"))
    reranker = Reranker(str(folder), "cpu")
    stage = second.second()
    for number, context in enumerate(CONTEXTS):
        read = first.rows[number, :DEPTH]
        logits = reranker.score([context] * DEPTH, second.snapshot.papers.take(read.tolist()))
        told = stage.blend.probabilities(first.scores[number, :DEPTH], logits)
        best = np.argsort(-told)
        assert again.rows[number, :DEPTH].tolist() == read[best].tolist()
        np.testing.assert_allclose(again.scores[number, :DEPTH], told[best], atol=1e-3)
    assert (again.rows[:, :DEPTH] != first.rows[:, :DEPTH]).any(axis=1).all()
    assert (again.rows[:, DEPTH:] == first.rows[:, DEPTH:]).all()
    for name in ("dense", "bm25"):  # what is known of a paper moves with it
        before, after = (
            dict(zip(ranked.rows[0].tolist(), getattr(ranked, name)[0].tolist(), strict=True))
            for ranked in (first, again)
        )
        assert before == after


def test_the_probabilities_fall(second: Searcher) -> None:
    ranked = second.rank(CONTEXTS, 25, "reranked")
    assert ranked.probability is not None
    assert (ranked.probability == ranked.scores).all()
    assert (np.diff(ranked.scores, axis=1) <= 0).all()
    assert ((ranked.scores > 0) & (ranked.scores < 1)).all()


def test_short_answers_stay_short(settings: Settings, tiny: Encoder) -> None:
    engine = Searcher(replace(settings, rerank_depth=300), tiny)
    table = engine.snapshot.papers
    own = table[4]
    ranked = engine.rank(CONTEXTS[:2], 40, "reranked", drafts=[own, None])
    assert sorted(ranked.rows[0].tolist()) == [-1, *(row for row in range(len(table)) if row != 4)]
    assert (ranked.rows[0, -1], ranked.scores[0, -1]) == (-1, 0)
    assert sorted(ranked.rows[1].tolist()) == list(range(len(table)))
    assert engine.search(CONTEXTS[:1], keep=Filter(since=3000)) == [[]]


def test_a_search_with_a_reranker_reads_again_after_best_alone(
    second: Searcher, settings: Settings, tiny: Encoder
) -> None:
    plain = Searcher(replace(settings, reranker=None), tiny)
    for ranking in RANKINGS:
        same = [ids(s.search(CONTEXTS[:1], 20, ranking)[0]) for s in (plain, second)]
        assert (same[0] == same[1]) == (ranking != "best"), ranking
    hits = second.search(CONTEXTS, 20)
    assert [ids(h) for h in hits] == [
        [second.snapshot.papers[int(row)].paper_id for row in rows]
        for rows in second.rank(CONTEXTS, 20, "reranked").rows
    ]
    assert [hit.probability for hit in hits[0]] == [hit.score for hit in hits[0]]


def test_few_hits_are_the_first_of_many(second: Searcher) -> None:
    many, few = (second.search(CONTEXTS, k) for k in (25, 3))
    assert [ids(hits) for hits in few] == [ids(hits)[:3] for hits in many]


def test_contexts_together_are_answered_as_alone(second: Searcher) -> None:
    together = second.search(CONTEXTS * 3, 20)
    for number, context in enumerate(CONTEXTS):
        alone = second.search([context], 20)[0]
        assert ids(alone) == ids(together[number]) == ids(together[number + 3])
        told = ([hit.score for hit in hits] for hits in (alone, together[number]))
        np.testing.assert_allclose(*told, atol=2e-3)  # bf16 rounds otherwise in another batch


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_reranker_of_no_weight_changes_nothing(settings: Settings, tiny: Encoder, copy: Path) -> None:
    replace(fitted(copy, tiny), weight=0.0, slope=1.0, shift=0.0).save(copy)
    engine = Searcher(replace(settings, reranker=copy), tiny)
    first, again = (engine.rank(CONTEXTS, 25, stage) for stage in ("best", "reranked"))
    assert again.rows.tolist() == first.rows.tolist()
    np.testing.assert_allclose(again.scores, first.scores, atol=1e-6)


def test_nothing_fits_is_said_below_the_threshold_of_the_second_stage(
    settings: Settings, tiny: Encoder, copy: Path
) -> None:
    for threshold in (0.0, 1.0):
        replace(fitted(copy, tiny), threshold=threshold).save(copy)
        engine = Searcher(replace(settings, reranker=copy), tiny)
        assert engine.nothing_fits(engine.search(CONTEXTS[:1])[0]) == bool(threshold)


Invoke = Callable[..., Result]


def asked(settings: Settings, **others: object) -> list[object]:
    told = {"index": settings.index, "reranker": settings.reranker} | others
    flags: list[object] = ["--device", "cpu"]
    return flags + [part for name, value in told.items() for part in (f"--{name}", value)]


def test_every_fault_of_a_reranker_is_one_line(
    invoke: Invoke, settings: Settings, ranker_file: Path, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    environment = {"CITEMARK_RANKER": str(ranker_file)}
    (copy / FILE).unlink()
    for reranker, env, says in (
        (tmp_path / "absent", environment, "no such model folder; train one with"),
        (tmp_path / "empty", environment, "the model cannot be loaded"),
        (
            copy,
            environment,
            f"was not fitted to a ranking; fit it with: indexer fit CONTEXTS --reranker {copy}\n",
        ),
        (copy, {}, "a reranker reads after a ranker, and none fits the index's encoder"),
    ):
        result = invoke("search", "storms [CITE]", *asked(settings, reranker=reranker), env=env)
        assert (result.exit_code, result.stdout) == (1, "")
        assert says in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_environment_asks_for_a_reranker_too(
    invoke: Invoke, settings: Settings, ranker_file: Path
) -> None:
    environment = {
        "CITEMARK_RANKER": str(ranker_file),
        "CITEMARK_RERANKER": str(settings.reranker),
        "CITEMARK_RERANK_DEPTH": str(DEPTH),
        "CITEMARK_DEVICE": "cpu",
    }
    result = invoke("search", CONTEXTS[0].text, "--index", settings.index, "--json", env=environment)
    found = json.loads(result.stdout)["contexts"][0]["hits"]
    # The encoder in its own precision, as the command has it: close hits change places with another one.
    assert [hit["paper_id"] for hit in found] == ids(Searcher(settings).search(CONTEXTS[:1])[0])


@pytest.fixture(scope="module")
def queries(papers: list[dict[str, Any]]) -> list[Query]:
    """Sentences that cite the papers of the small corpus by words of their titles."""
    made = []
    for number in range(150):
        paper = papers[::10][number % 30]
        words = paper["title"].split()
        text = f"Number {number} uses {' '.join(words[number % 4 : number % 4 + 3])} [CITE]."
        made.append(Query(f"q{number}", Context(text), f"citing-{number % 20}", (paper["id"],)))
    return made


def test_an_evaluation_has_a_row_of_the_second_stage_with_what_it_costs(
    second: Searcher, settings: Settings, queries: list[Query], tiny: Encoder
) -> None:
    rows = rows_for(second, queries)
    assert rows[-2:] == ["best", "reranked"]
    report = evaluate(second, queries[:40], rows[-2:], drawn_from=150)
    best, again = report.rows
    assert best.means["hit@10"] != again.means["hit@10"] or best.means["MRR"] != again.means["MRR"]
    assert best.means["hit@300"] == again.means["hit@300"]
    assert again.p50 > best.p50 > 0
    assert again.p95 >= again.p50
    assert list(report.calibration) == ["best", "reranked"]
    told = report.calibration["reranked"]
    assert told.bins != report.calibration["best"].bins
    assert sum(count for count, *_ in told.bins) == 40 * 10
    assert told.threshold == 0.05
    shown = "\n".join(table(report))
    assert "calibration of reranked" in shown
    assert "a sample, always the same, of 150" in shown
    assert "Calibration of reranked" in page(report)
    plain = Searcher(replace(settings, reranker=None), tiny)
    assert "reranked" not in rows_for(plain, queries)
    with pytest.raises(UserError, match="there is no reranker; give the folder"):
        evaluate(plain, queries, ["bm25", "reranked"])


def test_the_probabilities_that_are_checked_are_those_that_are_shown(
    second: Searcher, queries: list[Query]
) -> None:
    from indexer.calibration import calibration, expected_error

    some = queries[:20]
    told = calibration(second, some, second.second(), {}, lambda *_: None)
    ranked = second.rank([query.context for query in some], 10, "reranked")
    gold = second.snapshot.papers.rows_of([query.cited_ids[0] for query in some])
    assert told is not None
    assert told.shown == pytest.approx(
        expected_error(ranked.scores.ravel().astype(np.float64), (ranked.rows == gold[:, None]).ravel()),
        abs=0.01,
    )


def test_the_command_fits_a_reranker_and_it_serves(
    invoke: Invoke, queries: list[Query], settings: Settings, ranker_file: Path, copy: Path, tmp_path: Path
) -> None:
    file = tmp_path / "contexts.jsonl"
    rows = [{"text": q.context.text, "citing_id": q.citing_id, "cited_id": q.cited_ids[0]} for q in queries]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (copy / FILE).unlink()
    environment = {"CITEMARK_RANKER": str(ranker_file)}
    flags = asked(settings, reranker=copy)
    result = invoke("fit", file, *flags, "--queries", 140, "--json", env=environment)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["lists"] == 140
    assert told["file"] == str(copy / FILE)
    assert json.loads((copy / FILE).read_text()) == told["blend"]
    assert told["blend"]["reranker"] == Reranker(str(copy), "cpu").fingerprint
    assert 0 <= told["before"] <= 1
    assert invoke("search", "storms [CITE]", *flags, env=environment).exit_code == 0
    few = invoke("fit", file, *flags, "--queries", 50, env=environment)
    assert (few.exit_code, few.stderr.count("fewer than 100")) == (1, 1)
    for wrong in ([], [*flags, "--out", tmp_path / "ranker"]):
        assert invoke("fit", file, *wrong).exit_code == 2
