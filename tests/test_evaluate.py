"""Measures against hand-made numbers and against ir-measures on the files that are written."""

import json
import math
import re
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from conftest import write_corpus

import indexer.evaluate
import indexer.measures
from data.contexts import Context, Query
from data.errors import UserError
from indexer.build import build
from indexer.evaluate import Report, evaluate
from indexer.measures import CUTOFFS, PER_CONTEXT, PER_QUERY
from indexer.report import page, table
from indexer.search import Searcher
from indexer.settings import RANKINGS, Settings
from model.encoder import Encoder

COST = {"seconds": 0.0, "p50": 0.0, "p95": 0.0, "memory": 0}


def query(number: int, text: str, *cited: str, citing: str = "", name: str = "") -> Query:
    return Query(name or f"q{number}", Context(text), citing, cited)


def measured(queries: list[Query], run: list[list[str]]) -> dict[str, float]:
    return indexer.evaluate._row("toy", queries, run, {}, COST).means


def test_measures_of_a_toy_run_are_those_worked_out_by_hand() -> None:
    queries = [
        query(0, "one cited paper, found third", "c"),
        query(1, "two cited papers, one found first, one sixth", "a", "f"),
        query(2, "three cited papers, one found second", "b", "y", "z"),
        query(3, "one cited paper, not found", "z"),
    ]
    run = [list("abcdef")] * 4
    means = measured(queries, run)
    # Per query: the recalls of (1, 2, 3, 4) are averaged; nDCG by its definition.
    assert means["R@1"] == pytest.approx((0 + 1 / 2 + 0 + 0) / 4, abs=1e-4)
    assert means["R@5"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4, abs=1e-4)
    assert means["R@10"] == pytest.approx((1 + 1 + 1 / 3 + 0) / 4, abs=1e-4)
    assert means["RR"] == pytest.approx((1 / 3 + 1 + 1 / 2 + 0) / 4, abs=1e-4)
    gains = [1 / math.log2(rank + 1) for rank in range(1, 4)]
    ndcg = [1 / math.log2(4), (1 + 1 / math.log2(7)) / sum(gains[:2]), 1 / math.log2(3) / sum(gains), 0]
    assert means["nDCG@10"] == pytest.approx(sum(ndcg) / 4, abs=1e-4)
    # Per context: seven pairs with ranks 3, 1, 6, 2, -, -, -.
    assert means["hit@1"] == pytest.approx(1 / 7, abs=1e-4)
    assert means["hit@5"] == pytest.approx(3 / 7, abs=1e-4)
    assert means["hit@10"] == means["hit@300"] == pytest.approx(4 / 7, abs=1e-4)
    assert means["MRR"] == pytest.approx((1 / 3 + 1 + 1 / 6 + 1 / 2) / 7, abs=1e-4)


def test_a_query_that_finds_nothing_counts_as_zero() -> None:
    means = measured([query(0, "x", "a"), query(1, "y", "b")], [["a"], []])
    assert means["R@10"] == means["hit@10"] == means["MRR"] == means["RR"] == 0.5


def test_the_rank_of_the_last_place_is_counted() -> None:
    run = [[f"p{number}" for number in range(300)]]
    means = measured([query(0, "x", "p299")], run)
    assert (means["R@300"], means["hit@300"], means["R@50"], means["hit@50"]) == (1, 1, 0, 0)
    assert means["MRR"] == pytest.approx(1 / 300, abs=1e-4)


def intervals(values: list[float], cluster: list[int]) -> tuple[float, float]:
    return indexer.measures.intervals({"m": np.array(values)}, np.array(cluster))["m"]


def test_the_interval_holds_the_mean_and_shrinks_with_the_square_root_of_the_number() -> None:
    widths = []
    for count in (100, 400, 1600):
        values = [1.0, 0.0, 0.0, 1.0] * (count // 4)
        low, high = intervals(values, list(range(count)))
        assert low < 0.5 < high
        # The normal approximation: 1.96 standard errors to each side.
        assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(count), rel=0.15)
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_contexts_of_one_paper_are_one_observation() -> None:
    values = [1.0, 0.0, 0.0, 1.0] * 100
    alone = intervals(values, list(range(400)))
    together = intervals(sorted(values), [number // 20 for number in range(400)])
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_one_observation_has_no_width() -> None:
    assert intervals([1.0, 0.0], [0, 0]) == (0.5, 0.5)


@pytest.fixture(scope="module")
def toy(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """Papers of which the words decide what BM25 finds."""
    titles = ["alpha beta", "alpha gamma", "delta", "epsilon zeta", "eta theta"]
    papers = [{"id": f"p{number}", "title": title} for number, title in enumerate(titles)]
    root = tmp_path_factory.mktemp("toy")
    build(str(write_corpus(root / "corpus.jsonl", papers)), root / "index", tiny)
    return Searcher(Settings(root / "index", "cpu"), tiny)


def test_bm25_of_a_toy_corpus_by_hand(toy: Searcher) -> None:
    queries = [
        query(0, "the delta [CITE]", "p2"),  # found first
        query(1, "alpha gamma [CITE]", "p0"),  # found second, behind p1
        query(2, "theta [CITE]", "p0", "p4"),  # p4 first, p0 not found
    ]
    row = evaluate(toy, queries, ["bm25"]).rows[0]
    assert row.means["R@1"] == pytest.approx((1 + 0 + 0.5) / 3, abs=1e-4)
    assert row.means["hit@1"] == pytest.approx(2 / 4, abs=1e-4)
    assert row.means["hit@5"] == pytest.approx(3 / 4, abs=1e-4)
    assert row.means["MRR"] == pytest.approx((1 + 1 / 2 + 0 + 1) / 4, abs=1e-4)


def test_a_cited_paper_that_the_corpus_lacks_counts_as_not_found(toy: Searcher) -> None:
    report = evaluate(toy, [query(0, "delta", "p2", "elsewhere"), query(1, "theta", "p4")], ["bm25"])
    assert (report.contexts, report.queries, report.missing, report.papers) == (3, 2, 1, 5)
    assert report.rows[0].means["R@10"] == pytest.approx((1 / 2 + 1) / 2, abs=1e-4)
    assert report.rows[0].means["hit@10"] == pytest.approx(2 / 3, abs=1e-4)


def test_contexts_of_another_corpus_are_refused(toy: Searcher) -> None:
    with pytest.raises(
        UserError, match="none of the 2 cited papers, the first: x1; evaluate with the corpus"
    ):
        evaluate(toy, [query(0, "delta", "x1"), query(1, "theta", "x2")], ["bm25"])


@pytest.fixture(scope="module")
def queries(papers: list[dict[str, Any]]) -> list[Query]:
    """Sentences that cite the made-up papers, some of them several, with a strange id or none."""
    made = []
    for number in range(0, 300, 9):
        paper = papers[number]
        words = paper["title"].split()
        cited = [paper["id"], papers[(number * 7) % 300]["id"]][: 1 + number % 2]
        made.append(
            query(number, f"{' '.join(words[-5:])} [CITE]", *dict.fromkeys(cited), citing=f"c{number % 5}")
        )
    return [*made, query(999, "storm [CITE]", "not in this corpus"), query(1000, "zyzzyva", papers[3]["id"])]


@pytest.fixture(scope="module")
def evaluated(
    searcher: Searcher, queries: list[Query], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("evaluated") / "new" / "folder"
    return evaluate(searcher, queries, RANKINGS, out, "these tests"), out


@pytest.mark.parametrize("ranking", RANKINGS)
def test_the_report_is_what_ir_measures_says_of_the_files(
    ranking: str, evaluated: tuple[Report, Path], queries: list[Query]
) -> None:
    report, out = evaluated
    row = next(row for row in report.rows if row.name == ranking)
    qrels = list(ir_measures.read_trec_qrels(str(out / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(out / f"run-{ranking}.txt")))
    assert {qrel.query_id for qrel in qrels} == {q.query_id for q in queries}
    measures = [ir_measures.parse_measure(name) for name in PER_QUERY]
    aggregate = ir_measures.calc_aggregate(measures, qrels, run)
    for measure, value in aggregate.items():
        assert row.means[str(measure)] == pytest.approx(value, abs=1e-4), measure
    assert row.means["R@10"] > 0


@pytest.mark.parametrize("ranking", RANKINGS)
def test_hits_are_those_counted_in_the_files(
    ranking: str, evaluated: tuple[Report, Path], queries: list[Query]
) -> None:
    report, out = evaluated
    row = next(row for row in report.rows if row.name == ranking)
    places: dict[tuple[str, str], int] = {}
    for line in (out / f"run-{ranking}.txt").read_text().splitlines():
        name, _, paper_id, rank, _, _ = line.split()
        places[name, paper_id] = int(rank)
    ranks = [places.get((q.query_id, cited), math.inf) for q in queries for cited in q.cited_ids]
    for k in CUTOFFS:
        share = sum(rank <= k for rank in ranks) / len(ranks)
        assert row.means[f"hit@{k}"] == pytest.approx(share, abs=1e-4)
    assert row.means["MRR"] == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks), abs=1e-4)


def test_the_run_has_each_rank_once_and_falling_scores(evaluated: tuple[Report, Path]) -> None:
    for ranking in RANKINGS:
        lines = [line.split() for line in (evaluated[1] / f"run-{ranking}.txt").read_text().splitlines()]
        assert {len(line) for line in lines} == {6}
        for name in {line[0] for line in lines}:
            own = [line for line in lines if line[0] == name]
            assert [int(line[3]) for line in own] == list(range(1, len(own) + 1))
            assert [int(line[4]) for line in own] == sorted({int(line[4]) for line in own}, reverse=True)


def test_the_report_as_json_has_a_row_for_each_ranking(evaluated: tuple[Report, Path]) -> None:
    report = json.loads((evaluated[1] / "report.json").read_text())
    assert report == json.loads(json.dumps(evaluated[0].as_dict()))
    assert [row["name"] for row in report["rows"]] == list(RANKINGS)
    assert report["source"] == "these tests"
    assert (report["papers"], report["missing"], report["encoder"]) == (300, 1, "citemark")
    for row in report["rows"]:
        assert set(row) == {"name", "intervals", "slices", *COST, *PER_QUERY, *PER_CONTEXT}
        assert 0 < row["p50"] <= row["p95"]
        assert row["memory"] > 50
        for name in (*PER_QUERY, *PER_CONTEXT):
            low, high = row["intervals"][name]
            assert 0 <= low <= row[name] <= high <= 1


def test_the_table_fits_a_terminal_and_has_every_number(evaluated: tuple[Report, Path]) -> None:
    report = evaluated[0]
    lines = list(table(report))
    assert max(map(len, lines)) <= 80
    assert "over 300 papers, encoder citemark" in lines[0]
    assert lines[1] == "1 cited paper is not in the corpus and counts as not found"
    for name in (*PER_QUERY, *PER_CONTEXT):
        told = " ".join(line for line in lines if line.split()[:1] == [name])
        shown = [float(value) for value in re.findall(r"(\d\.\d{3}) \[", told)]
        assert shown == pytest.approx([row.means[name] for row in report.rows], abs=6e-4)


def names_in(out: Path) -> list[str]:
    return [line.split()[0] for line in (out / "qrels.txt").read_text().splitlines()]


def test_queries_keep_their_own_ids_in_the_files(toy: Searcher, tmp_path: Path) -> None:
    evaluate(
        toy, [query(0, "delta", "p2", name="BEIR-7"), query(1, "eta", "p4", name="8")], ["bm25"], tmp_path
    )
    assert names_in(tmp_path) == ["BEIR-7", "8"]


@pytest.mark.parametrize("names", [("same", "same"), ("two words", "one"), ("tab\tbed", "x")])
def test_ids_that_the_files_cannot_hold_are_numbered(
    names: tuple[str, str], toy: Searcher, tmp_path: Path
) -> None:
    queries = [
        query(n, text, "p2", name=name) for n, (text, name) in enumerate(zip(("a", "b"), names, strict=True))
    ]
    evaluate(toy, queries, ["bm25"], tmp_path)
    assert names_in(tmp_path) == ["q0", "q1"]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(toy: Searcher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    began: list[str] = []
    with pytest.raises(UserError, match=r"file/out/qrels\.txt: cannot be written .*; choose another --out"):
        evaluate(
            toy,
            [query(0, "delta", "p2")],
            ["bm25"],
            tmp_path / "file" / "out",
            progress=lambda *_: began.append("work"),
        )
    assert not began


def test_progress_counts_the_queries_of_each_ranking(toy: Searcher) -> None:
    seen: list[tuple[Any, ...]] = []
    evaluate(
        toy,
        [query(n, f"delta {n}", "p2") for n in range(70)],
        ["bm25", "dense"],
        progress=lambda *step: seen.append(step),
    )
    assert seen == [(ranking, done, 70, " queries") for ranking in ("bm25", "dense") for done in (0, 64, 70)]


def test_slices_split_the_contexts_by_training_year_family_and_citations(toy: Searcher) -> None:
    queries = [
        Query("q0", Context("the delta [CITE]"), "a", ("p2",), 2008, "thesis"),
        Query("q1", Context("alpha gamma [CITE] and [OTHER]"), "b", ("p0",), 2012, "paper"),
        Query("q2", Context("theta [CITE], [OTHER], [OTHER], [OTHER]"), "c", ("p0", "p4"), 2021, "paper"),
    ]
    row = evaluate(toy, queries, ["bm25"], trained={"p0"}).rows[0]
    found = {part: (facts["contexts"], facts["hit@10"]) for part, facts in row.slices.items()}
    assert found == {
        "cited in training": (2, 0.5),
        "not cited in training": (2, 1.0),
        "year … to 2009": (1, 1.0),
        "year 2010 to 2014": (1, 1.0),
        "year 2020 to …": (2, 0.5),
        "family thesis": (1, 1.0),
        "family paper": (3, pytest.approx(2 / 3, abs=1e-4)),
        "1 citation": (1, 1.0),
        "2 citations": (1, 1.0),
        "3+ citations": (2, 0.5),
    }
    assert row.slices["not cited in training"]["MRR"] == 1
    low, high = row.slices["family paper"]["interval"]
    assert low <= 2 / 3 <= high


def test_a_slice_of_everything_is_left_out(toy: Searcher) -> None:
    row = evaluate(toy, [query(0, "delta", "p2"), query(1, "theta", "p4")], ["bm25"], trained={"p9"}).rows[0]
    assert row.slices == {}


def test_the_html_report_has_every_number_and_loads_and_runs_nothing(
    evaluated: tuple[Report, Path], toy: Searcher
) -> None:
    html = page(evaluated[0])
    for row in evaluated[0].rows:
        for name in (*PER_QUERY, *PER_CONTEXT):
            assert f"<td>{row.means[name]:.3f} <small>" in html
    assert not re.search(r"<script|<link|https?://|src=\"(?!data:)|@import|url\(", html)
    assert "default-src 'none'" in html
    hostile = evaluate(toy, [query(0, "delta", "p2")], ["bm25"], source="<script>alert(1)</script>")
    assert "<script" not in page(hostile)
