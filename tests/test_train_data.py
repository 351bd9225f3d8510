"""What a training reads: pairs of every kind, what is left out and counted, mixtures, made-up pairs."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.contexts import CITE, Context
from data.errors import UserError
from data.paper import Paper
from model.batches import WeightedBatches
from model.negatives import mine
from model.text import MARKS, query_text, read_marks, write_marks
from model.training_data import (
    Documents,
    Examples,
    Pair,
    Source,
    examples,
    from_papers,
    read_sources,
    with_noise,
)

PAPERS = [Paper(f"p{n}", f"Title {n}", f"About {n}.") for n in range(6)]
CONTEXTS = [
    {"text": "As shown by [CITE].", "citing_id": "c1", "cited_id": "p1"},
    {"text": "As shown by [CITE].", "citing_id": "c1", "cited_id": "p2"},
    {"text": "Others [OTHER] and [CITE] agree.", "citing_id": "c2", "cited_id": "p3"},
]


@pytest.fixture
def documents() -> Documents:
    return Documents(PAPERS)


def lines(path: Path, rows: Iterable[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def only(sources: list[Source]) -> Source:
    assert len(sources) == 1
    return sources[0]


def table(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        lines(path, rows)
    return str(path)


@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet", "c.csv", "c.jsonl.gz"])
def test_contexts_are_read_alike_from_every_format(name: str, tmp_path: Path, documents: Documents) -> None:
    source = only(read_sources([table(tmp_path / name, CONTEXTS)], documents))
    assert source.pairs == [
        Pair("As shown by [CITE].", "c1", 1),
        Pair("As shown by [CITE].", "c1", 2),
        Pair("Others [OTHER] and [CITE] agree.", "c2", 3),
    ]
    assert source.weight == 3


def test_a_hugging_face_data_set_is_read(tmp_path: Path, documents: Documents) -> None:
    table(tmp_path / "train.parquet", CONTEXTS)
    assert len(only(read_sources([f"hf:{tmp_path}"], documents)).pairs) == 3


def test_a_beir_folder_is_read(tmp_path: Path, documents: Documents) -> None:
    lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "who says so [CITE]"}])
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp4\t1\n")
    assert only(read_sources([str(tmp_path)], documents)).pairs == [Pair("who says so [CITE]", "", 4)]


def test_papers_that_the_corpus_lacks_are_counted(tmp_path: Path, documents: Documents) -> None:
    rows = [*CONTEXTS, {"text": "x [CITE]", "citing_id": "", "cited_id": "unknown"}]
    counts = only(read_sources([lines(tmp_path / "c.jsonl", rows)], documents)).counts
    assert counts["cited paper not in the corpus"] == 1
    assert counts["pairs"] == 3


SEED = [
    {"sentence_0": "A right one [CITE].", "sentence_1": "Attention   We propose it.", "label": 1},
    {"sentence_0": "A wrong one [CITE].", "sentence_1": "Other   Text.", "label": 0},
    {"sentence_0": "No mark here.", "sentence_1": "Attention   We propose it.", "label": 1},
    {"sentence_0": "Neither nor.", "sentence_1": "Other   Text.", "label": 0},
    {"sentence_0": "Right again [CITE].", "sentence_1": "Other   Text.", "label": "1.0"},
]


def test_label_0_is_never_a_positive_and_rows_without_a_mark_are_counted(tmp_path: Path) -> None:
    documents = Documents()
    source = only(read_sources([lines(tmp_path / "s.jsonl", SEED)], documents))
    assert [pair.context for pair in source.pairs] == ["A right one [CITE].", "Right again [CITE]."]
    assert source.counts == Counter({"rows": 5, "pairs": 2, "label 0": 1, "without [CITE]": 2})
    first = documents.papers[source.pairs[0].row]
    assert (first.title, first.abstract) == ("Attention", "We propose it.")


def test_the_seed_recipe_takes_every_row_as_its_loss_did(tmp_path: Path) -> None:
    source = only(read_sources([lines(tmp_path / "s.jsonl", SEED)], Documents(), labels_count=False))
    assert [pair.label for pair in source.pairs] == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "row",
    [
        {"query": "ask [CITE]", "passage": "the answer"},
        {"anchor": "ask [CITE]", "positive": "the answer", "id": 7},
        {"query": "ask [CITE]", "pos": ["the answer", "another"]},
        {"query": "ask [CITE]", "title": "the answer"},
        ["ask [CITE]", "the answer"],
    ],
)
def test_pairs_are_read_in_the_usual_spellings(row: Any, tmp_path: Path) -> None:
    documents = Documents()
    pair = only(read_sources([lines(tmp_path / "p.jsonl", [row])], documents)).pairs[0]
    assert (pair.context, documents.papers[pair.row].title) == ("ask [CITE]", "the answer")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"query": "", "passage": "x"}\n', "no query"),
        ('{"text": "a [CITE]", "cited_id": "nobody"}\n', "not in the corpus"),
        ("not json\n", "not a record"),
        ("", "it is empty"),
        ('{"query": "a", "passage": "b", "label": "often"}\n', "label"),
    ],
)
def test_data_without_pairs_are_refused_in_one_line(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_sources([str(path)], Documents())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no.jsonl", "no.txt", "no.json", "damaged.parquet", "damaged.jsonl.gz"])
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name != "no.jsonl":
        path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=name):
        read_sources([str(path)], Documents())


def test_a_mixture_gives_each_data_set_its_weight(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lines(tmp_path / f"{name}.jsonl", [[f"{name} {n}", f"passage {n}"] for n in range(5)])
    mixture = tmp_path / "mix.json"
    mixture.write_text(json.dumps([{"name": "a.jsonl", "weight": 3}, {"name": "b.jsonl", "weight": 1}]))
    assert [s.weight for s in read_sources([str(mixture)], Documents())] == [3, 1]
    for bad in ("{}", "[]", '[{"name": "a.jsonl"}]', '[{"name": "a.jsonl", "weight": -1}]', "["):
        mixture.write_text(bad)
        with pytest.raises(UserError, match=r"mix\.json"):
            read_sources([str(mixture)], Documents())


def test_equal_ids_and_equal_texts_have_one_key() -> None:
    documents = Documents(
        [Paper("a", "One", "Text"), Paper("b", "one", "text"), Paper("c", "Two"), Paper("a", "Three")]
    )
    a, b, c, again = documents.keys().tolist()
    assert a == b == again != c


def test_a_query_knows_every_right_answer_that_any_pair_gives_it(documents: Documents) -> None:
    source = Source(
        "s",
        1.0,
        [Pair("Same [CITE].", "c1", 1), Pair("same [CITE]. ", "c2", 2), Pair("Else [CITE].", "c1", 3)],
    )
    keys = documents.keys()
    asked = examples([source], documents, keys, "drop", grouped=False)
    assert asked.known == [frozenset({1, 2}), frozenset({1, 2}), frozenset({3})]
    assert [a.tolist() for a in asked.answers] == [[1], [2], [3]]


def test_grouped_examples_have_all_papers_of_a_citing_sentence(tmp_path: Path, documents: Documents) -> None:
    sources = read_sources([lines(tmp_path / "c.jsonl", CONTEXTS)], documents)
    asked = examples(sources, documents, documents.keys(), "cite", grouped=True)
    assert [a.tolist() for a in asked.answers] == [[1, 2], [3]]
    assert asked.queries == ["As shown by [CITE].", "Others and [CITE] agree."]


def test_drafts_are_appended_where_the_citing_paper_is_known(documents: Documents) -> None:
    source = Source("s", 1.0, [Pair("One [CITE].", "p5", 1), Pair("Two [CITE].", "elsewhere", 2)])
    keys = documents.keys()
    asked = examples([source], documents, keys, "drop", grouped=True, draft=1.0)
    assert asked.queries == ["One . Title 5. About 5.", "Two ."]


@given(st.text(), st.sampled_from(MARKS))
def test_a_form_keeps_its_marks_and_is_stable(sentence: str, marks: Any) -> None:
    once = query_text(Context(f"{sentence} [CITE] and [OTHER]"), marks)
    assert (CITE in once) == (marks != "drop") or CITE in sentence
    assert query_text(Context(once), marks) == once or "[" in sentence


def test_the_form_of_a_folder_is_read_back_and_a_damaged_one_refused(tmp_path: Path) -> None:
    assert read_marks(tmp_path) == "drop"
    for marks in MARKS:
        write_marks(tmp_path, marks)
        assert read_marks(tmp_path) == marks
    for bad in ('{"marks": "all"}', "{}", "[", "3"):
        (tmp_path / "citemark.json").write_text(bad)
        with pytest.raises(UserError, match=r"citemark\.json"):
            read_marks(tmp_path)


def test_noise_makes_its_share_wrong_and_says_so(documents: Documents) -> None:
    pairs = [Pair(f"sentence {n} [CITE]", "", n % 6) for n in range(3000)]
    noisy = with_noise(pairs, documents, 0.82, seed=1)
    wrong = [new for old, new in zip(pairs, noisy, strict=True) if old.row != new.row]
    assert all(pair.label == 0 for pair in wrong)
    # a random one of six papers is the right one by chance
    assert len(wrong) / len(pairs) == pytest.approx(0.82 * 5 / 6, abs=0.03)
    assert sum(pair.label for pair in noisy) == len(pairs) - len(wrong)
    assert noisy == with_noise(pairs, documents, 0.82, seed=1)


def test_pairs_from_papers_ask_by_sentences_titles_and_words_of_titles() -> None:
    words = " ".join(f"word{n}" for n in range(10))
    papers = [Paper("a", "One two three four five", f"First {words}. Short one."), Paper("b", "B")]
    pairs = from_papers(Documents(papers), 400, seed=3)
    assert {pair.row for pair in pairs} == {0}
    asked = [pair.context for pair in pairs]
    sentences, titles = asked.count(f"First {words} [CITE]."), {"One two three four five"}
    titles |= {"One two three four five [CITE]"}
    assert sentences / 400 == pytest.approx(0.65, abs=0.08)
    assert sum(query in titles for query in asked) / 400 == pytest.approx(0.15, abs=0.06)
    short = {query for query in asked if query not in titles and not query.startswith("First")}
    assert short <= {"One two", "two three", "three four", "four five", "One two three", "two three four"} | {
        "three four five", "One two three four", "two three four five"
    }  # fmt: skip
    assert len(short) > 5
    with pytest.raises(UserError, match="no abstracts"):
        from_papers(Documents([Paper("b", "B")]), 1, seed=3)


@pytest.mark.parametrize("one_source", [False, True])
def test_weights_are_honoured_and_no_example_repeats_before_its_source_is_used_up(one_source: bool) -> None:
    source = np.repeat([0, 1], [900, 100])
    batches = WeightedBatches(source, [1.0, 3.0], 32, seed=5, one_source=one_source)
    drawn: Counter[int] = Counter()
    for epoch in range(4):
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) <= len(batches) + one_source
        for batch in found:
            assert not one_source or len(set(source[batch].tolist())) == 1
            drawn.update(batch)
    shares = Counter[int]()
    for example, count in drawn.items():
        shares[int(source[example])] += count
    assert shares == {0: 1000, 1: 3000}
    assert {drawn[example] for example in range(900, 1000)} == {30}
    assert {drawn[example] for example in range(900)} == {1, 2}


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = WeightedBatches(np.zeros(50, np.int64), [1.0], 8, seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert sorted(n for batch in order(1, 2) for n in batch) == list(range(50))


def test_mined_negatives_keep_the_margin_and_leave_out_golds_and_co_cited() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = np.arange(200)
    keys[150] = keys[10]  # a duplicate of a right answer
    answers = [np.array([row]) for row in (10, 20, 30, 40)]
    asked = Examples(
        queries=["a", "b", "c", "d"],
        answers=answers,
        known=[frozenset({10, 11}), frozenset({20}), frozenset({30}), frozenset({40})],
        citing=["x", "x", "", "y"],
        source=np.zeros(4, np.int64),
    )
    queries = vectors[[10, 20, 30, 40]] + 0.3 * rng.normal(size=(4, 8)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found = mine(asked, queries, vectors.astype(np.float16), keys, count=5, margin=0.2, seed=1)
    scores = queries @ vectors.astype(np.float16).astype(np.float32).T
    co_cited = [{10, 11, 20}, {10, 20}, {30}, {40}]
    for query in range(4):
        ceiling = 0.8 * scores[query, answers[query][0]]
        allowed = [
            row
            for row in np.argsort(-scores[query])
            if scores[query, row] <= ceiling and int(keys[row]) not in co_cited[query]
        ]
        assert found[query].tolist() == allowed[:5]


def test_where_the_margin_leaves_too_few_random_ones_fill_up() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32)[0], (10, 1))
    asked = Examples(["a"], [np.array([3])], [frozenset({3})], [""], np.zeros(1, np.int64))
    found = mine(asked, vectors[:1], vectors.astype(np.float16), np.arange(10), count=4, margin=0.1, seed=1)
    assert found.shape == (1, 4)
    assert 3 not in found
