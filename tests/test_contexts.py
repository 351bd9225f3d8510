"""What a user types as contexts, and the files of contexts that an evaluation reads."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.contexts import CITE, MAX_QUERY, OTHER, Context, Query, drawn, parse, read_queries
from data.corpus import Reading
from data.errors import UserError

# parse


def test_a_text_without_a_mark_is_one_context() -> None:
    assert parse("Attention is all you need.") == [Context("Attention is all you need.")]


def test_a_text_with_one_mark_is_its_context_whole() -> None:
    typed = "One sentence. Another one [CITE] follows. A third."
    assert parse(typed) == [Context(typed)]


def test_a_text_with_two_marks_in_one_sentence_gives_two_contexts() -> None:
    assert parse("First [CITE] and then [CITE] came.") == [
        Context("First [CITE] and then [OTHER] came."),
        Context("First [OTHER] and then [CITE] came."),
    ]


def test_each_mark_has_its_sentence_and_the_one_before() -> None:
    typed = "We start. This [CITE] is old! Nothing here. That [CITE] is new? So is [CITE]."
    assert [context.text for context in parse(typed)] == [
        "We start. This [CITE] is old!",
        "Nothing here. That [CITE] is new?",
        "That [OTHER] is new? So is [CITE].",
    ]


def test_line_breaks_and_control_characters_are_spaces() -> None:
    assert parse("One\n\n two\x00\ttokens [CITE]\r\n") == [Context("One two tokens [CITE]")]


def test_a_mark_of_another_citation_is_kept() -> None:
    assert parse("After [OTHER] came [CITE].") == [Context("After [OTHER] came [CITE].")]


@pytest.mark.parametrize("typed", ["", " \n", "[CITE]", "[CITE] [OTHER], [CITE].", "...", "\x00\ud800"])
def test_a_text_of_nothing_but_marks_is_refused(typed: str) -> None:
    with pytest.raises(UserError, match="the text is empty: type a sentence with"):
        parse(typed)


def test_an_over_long_text_is_refused_with_both_numbers() -> None:
    assert len(parse("a" * MAX_QUERY)) == 1
    with pytest.raises(UserError, match="the text has 20,001 characters, the limit is 20,000"):
        parse("a" * (MAX_QUERY + 1))


PIECES = st.sampled_from([CITE, OTHER, "a", "Word", ".", "?", " ", "\n", '"', "(", "É", "[CITE", "e.g. "])


@settings(deadline=None)
@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
def test_every_mark_gives_a_context_with_that_mark_alone(typed: str) -> None:
    marks = typed.count(CITE)
    try:
        contexts = parse(typed)
    except UserError:
        assert not any(c.isalnum() for c in typed.replace(CITE, "").replace(OTHER, ""))
        return
    assert len(contexts) == max(1, marks)
    assert all(context.text.count(CITE) == min(1, marks) for context in contexts)
    if marks > 1:  # nothing but whitespace and marks is changed on the way
        letters = set("".join(typed.split()))
        assert all(set("".join(c.text.split())) <= letters | set(OTHER) for c in contexts)


# read_queries

ROWS: list[dict[str, Any]] = [
    {"context_id": 1, "citing_id": "p", "cited_id": "a", "text": "Uses [CITE]."},
    {"context_id": 2, "citing_id": "p", "cited_id": "b", "text": "Uses  [CITE]."},  # the same, cleaned
    {"context_id": 3, "citing_id": "q", "cited_id": "a", "text": "Uses [CITE]."},  # another citing paper
    {"context_id": 4, "citing_id": "p", "cited_id": "a", "text": "Uses [CITE]."},  # repeats the first
    {"context_id": 5, "citing_id": "p", "cited_id": "c", "text": "As [CITE] has it."},
]
QUERIES = [
    Query("q0", Context("Uses [CITE]."), "p", ("a", "b")),
    Query("q1", Context("Uses [CITE]."), "q", ("a",)),
    Query("q2", Context("As [CITE] has it."), "p", ("c",)),
]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def counted(source: Path) -> tuple[list[Query], Reading]:
    queries, reading = read_queries(str(source))
    assert reading.read == reading.accepted + reading.rejected + reading.duplicates + reading.filtered
    assert sum(len(query.cited_ids) for query in queries) == reading.accepted
    assert len({query.query_id for query in queries}) == len(queries)
    return queries, reading


@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c.parquet", "c.csv"])
def test_rows_of_one_citing_paper_and_text_are_one_query(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "c.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name == "c.csv":
        lines = ["text,cited_id,citing_id", *(f"{r['text']},{r['cited_id']},{r['citing_id']}" for r in ROWS)]
        path.write_text("\n".join(lines))
    else:
        write_lines(path, ROWS)
    queries, reading = counted(path)
    assert queries == QUERIES
    assert reading.duplicates == 1


def test_contexts_without_a_citing_paper_are_grouped_by_text(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "citing_id"} for row in ROWS]
    queries, _ = counted(write_lines(tmp_path / "c.jsonl", rows))
    assert [(query.citing_id, query.cited_ids) for query in queries] == [("", ("a", "b")), ("", ("c",))]


def test_bad_rows_are_rejected_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    bad = [
        b"{cut",
        b"[1]",
        b"null",
        b'{"text": "no gold"}',
        b'{"cited_id": "a"}',
        b'{"text": ["x"], "cited_id": "a"}',
    ]
    path.write_bytes(
        b"\n".join([json.dumps(ROWS[0]).encode(), b"", *bad, b'{"text": "\\ud800", "cited_id": "a"}'])
    )
    path.write_bytes(path.read_bytes().replace(b"[1]", b"7"))
    queries, reading = counted(path)
    assert queries == QUERIES[:1] or queries[0].cited_ids == ("a",)
    assert [reject.split(":")[0] for reject in reading.rejects] == [f"line {n}" for n in range(3, 10)]


@pytest.mark.parametrize("ids", [[], None])
def test_a_file_without_contexts_is_refused_with_its_first_fault(tmp_path: Path, ids: Any) -> None:
    path = write_lines(tmp_path / "c.jsonl", [{"text": "x", "cited_id": None}])
    with pytest.raises(
        UserError, match=r"no contexts with text and cited_id in it; the first fault: line 1: no cit"
    ):
        read_queries(str(path))
    path.write_text("")
    with pytest.raises(UserError, match=r"no contexts with text and cited_id in it$"):
        read_queries(str(path))


def test_what_is_no_contexts_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("x")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 it is not")
    pq.write_table(pa.table({"title": ["x"]}), tmp_path / "other.parquet")
    for name, reason in [
        ("nowhere.jsonl", "no such file or folder"),
        ("c.txt", "unknown format"),
        ("c.parquet", "cannot be read"),
        ("other.parquet", "no column 'text'"),
        (".", "no BEIR folder"),
    ]:
        with pytest.raises(UserError, match=reason):
            read_queries(str(tmp_path / name))


def beir(folder: Path, qrels: str, name: str = "qrels/test.tsv") -> Path:
    queries = [
        {"_id": "q1", "text": "About x?"},
        {"_id": "2", "text": "About y?"},
        {"_id": "q3", "text": "About x?"},
    ]
    write_lines(folder / "queries.jsonl", queries)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(qrels)
    return folder


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore\n", ""])
@pytest.mark.parametrize("name", ["qrels.tsv", "qrels/test.tsv", "qrels/dev.tsv"])
def test_a_beir_folder_is_read_with_its_query_ids(tmp_path: Path, header: str, name: str) -> None:
    qrels = "q1\td1\t1\nq1\td2\t2\n2\td3\t1\r\nq3\td1\t1\n2\td9\t0\n2\td8\t-1\n\n"
    queries, reading = counted(beir(tmp_path / "set", header + qrels, name))
    assert queries == [
        Query("q1", Context("About x?"), "", ("d1", "d2")),
        Query("2", Context("About y?"), "", ("d3",)),
        Query("q3", Context("About x?"), "", ("d1",)),  # the same text is another query there
    ]
    assert reading.read == 4


def test_the_test_part_comes_before_the_others(tmp_path: Path) -> None:
    folder = beir(tmp_path / "set", "q1\td1\t1\n", "qrels/train.tsv")
    beir(folder, "q1\td2\t1\n", "qrels/dev.tsv")
    assert counted(folder)[0][0].cited_ids == ("d2",)
    beir(folder, "q1\td3\t1\n", "qrels/test.tsv")
    assert counted(folder)[0][0].cited_ids == ("d3",)


def test_bad_judgements_of_a_beir_folder_are_rejected(tmp_path: Path) -> None:
    qrels = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td1\t1\nunknown\td1\t1\nq1\td2\tmany\nq1\nq1\t\t1\n"
    queries, reading = counted(beir(tmp_path / "set", qrels))
    assert [query.cited_ids for query in queries] == [("d1",)]
    assert reading.duplicates == 1
    assert reading.rejects == [
        "test.tsv line 4: no text",
        "test.tsv line 5: not a relevance score: 'many'",
        "test.tsv line 6: not a relevance score: ''",
        "test.tsv line 7: no cited_id",
    ]


def test_a_sample_is_always_the_same_and_in_order() -> None:
    queries = [Query(f"q{number}", Context("text"), "", ("p",)) for number in range(500)]
    some = drawn(queries, 40)
    assert list(some) == list(drawn(queries, 40))
    places = [queries.index(query) for query in some]
    assert places == sorted(set(places))
    assert len(places) == 40
    assert set(places) < {queries.index(query) for query in drawn(queries, 41)}
    assert 150 < sum(places) / 40 < 350  # from all over
    assert drawn(queries, 500) == drawn(queries, 999) == drawn(queries, None) == queries
