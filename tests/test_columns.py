"""Many records at once: the papers and the reasons that one record at a time gives."""

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from bench import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clean import ANY_TEXT, ARXIV_RECORD, JSON

from data import columns, corpus
from data.clean import MAX_FIELD, Rejected, text, to_paper
from data.columns import Block, clean
from data.corpus import Reading
from data.filter import Filter
from data.latex import decode_accents
from data.paper import SCHEMA, Paper, from_rows
from data.table import PaperTable

# What arXiv's texts are made of, and what goes wrong in them.
PIECES = st.sampled_from((
    "a", "Bb", " ", "  ", "\n", "\n  ", "\t", "\r\n", "\x00", "\x1f", "\x7f", "\x85", "\u00a0", "\u2028",
    "\u202e", "\ud800", "\u00e9", "e\u0301", "\u0301", "\u00df", "\U0001d400", "\ufffe", "\\'e", '\\"{o}',
    "\\", "$", "{", "\\O ", ",", ";", "10.",
))  # fmt: skip
LINES = st.lists(PIECES, max_size=12).map("".join) | ANY_TEXT
NAMES = st.lists(
    st.lists(LINES, min_size=2, max_size=4) | st.lists(LINES, min_size=3, max_size=3), max_size=4
)
DATES = st.sampled_from((
    "Mon, 2 Apr 2007 19:18:42 GMT", "Tue, 24 Jul 1998 20:10:27 GMT", "Mon, 2 Apr 20071 19:18:42 GMT", "2007",
    "1 2007-19:18:42 GMT", "Mon, 2 Apr 0000 19:18:42 GMT", "2007 " * 50, "Mon, 2 Apr 2007", "", "x" * 200,
))  # fmt: skip
VERSIONS = st.lists(
    st.fixed_dictionaries({}, optional={"version": LINES, "created": DATES | JSON}), max_size=3
)
FIELDS: dict[str, Any] = {
    "id": st.sampled_from(
        ("1706.03762", "1706.03762v7", "hep-th/9901001", "solv-int/9901001", "x", " 1706.03762", "")
    )
    | LINES,
    "title": LINES,
    "abstract": LINES | st.none(),
    "journal-ref": LINES | st.none(),
    "doi": LINES | st.none() | LINES.map(lambda line: "10." + line) | st.just("https://doi.org/10.1/x"),
    "categories": st.sampled_from(("cs.CL hep-th", "math", "cs.CL, stat.ML", "math cs.CL", ""))
    | LINES
    | st.none(),
    "authors_parsed": NAMES,
    "versions": VERSIONS,
    "update_date": st.sampled_from(("2008-11-26", None, "")),
}
ARXIVS = st.fixed_dictionaries(
    {"title": LINES.map(lambda line: "T" + line), "versions": st.just(ARXIV_RECORD["versions"])}
    | {name: FIELDS[name] for name in ("abstract", "journal-ref", "doi", "categories")}
).map(lambda fields: ARXIV_RECORD | fields)
WRONG = st.tuples(
    st.fixed_dictionaries({}, optional={name: values | JSON for name, values in FIELDS.items()}),
    st.sets(st.sampled_from(sorted(ARXIV_RECORD)), max_size=2),
    st.dictionaries(
        st.sampled_from(("text", "arxiv_id", "venue", "year", "data", "issued", "new")), JSON, max_size=2
    ),
).map(lambda parts: {k: v for k, v in (ARXIV_RECORD | parts[0] | parts[2]).items() if k not in parts[1]})


def one_by_one(records: list[Any]) -> tuple[list[Paper], list[tuple[int, str]]]:
    papers, rejects = [], []
    for number, record in enumerate(records):
        try:
            papers.append(to_paper(record))
        except Rejected as error:
            rejects.append((number, str(error)))
    return papers, rejects


def together(records: list[Any]) -> tuple[list[Paper], list[tuple[int, str]]]:
    block = Block()
    for record in records:
        block.add(record)
    rows, rejects = block.finish()
    rows.validate(full=True)
    assert rows.schema == SCHEMA
    return from_rows(rows), rejects


def test_a_generated_snapshot_gives_the_papers_of_to_paper() -> None:
    records: list[Any] = []
    for line in snapshot.lines(3000, bad=0.05, seed=3):
        try:
            records.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            records.append(Rejected("not JSON"))
    assert together(records) == one_by_one(records)


def test_an_ordinary_record_of_arxivs_is_taken_into_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = to_paper(ARXIV_RECORD)
    monkeypatch.setattr(columns, "to_paper", None)  # nobody asks it
    assert together([ARXIV_RECORD, ARXIV_RECORD | {"a-new-field": 1}]) == ([expected] * 2, [])


@settings(deadline=None, max_examples=300)
@given(st.lists(ARXIVS | WRONG | JSON, max_size=5))
def test_dirty_records_give_what_to_paper_gives(records: list[Any]) -> None:
    kept = copy.deepcopy(records)
    assert together(records) == one_by_one(records)
    assert repr(records) == repr(kept)


@settings(deadline=None, max_examples=300)
@given(st.lists(LINES, max_size=6), st.integers(0, 6))
def test_texts_are_cleaned_as_one_text_is(values: list[str], prose: int) -> None:
    expected = [decode_accents(text(v)) if n < prose else text(v) for n, v in enumerate(values)]
    assert clean(values, prose).to_pylist() == expected


@pytest.mark.parametrize("field", ["title", "abstract", "journal-ref", "doi", "categories"])
@pytest.mark.parametrize("length", [MAX_FIELD - 3, MAX_FIELD - 2, MAX_FIELD + 1])
def test_over_long_fields_are_rejected_as_alone(field: str, length: int) -> None:
    records = [ARXIV_RECORD, ARXIV_RECORD | {field: "10." + "a" * (length - 3)}, ARXIV_RECORD]
    assert together(records) == one_by_one(records)


@pytest.mark.parametrize(
    "authors",
    [
        [["", "", ""]],
        [["A", "B", ""], [" ", "\n", ""], ["C", "", "Jr."]],
        [["A", "B"]],
        [["A", None, ""]],
        ["abc"],
        [{"0": 1}],
        [],
        [["A" * MAX_FIELD, "B", ""]],
        [["\ud800", "B", ""], ["Erd\\H{o}s", "P.", ""]],
    ],
)
def test_authors_are_those_of_to_paper(authors: Any) -> None:
    records = [ARXIV_RECORD, ARXIV_RECORD | {"authors_parsed": authors}, ARXIV_RECORD]
    assert together(records) == one_by_one(records)


def test_a_block_is_full_of_many_records_of_large_ones_and_of_odd_ones() -> None:
    large = ARXIV_RECORD | {"abstract": "word " * 18_000}
    odd = {"title": "T"}
    for record, most in ((ARXIV_RECORD, columns.ROWS), (large, 60), (odd, 300), (None, columns.ROWS)):
        block = Block()
        while not block.full:
            block.add(record)
        assert block.count <= most
        assert sum(map(len, block.finish())) == block.count


def test_a_file_is_written_as_its_records_one_by_one(tmp_path: Path) -> None:
    source = tmp_path / "snapshot.json"
    source.write_text("".join(snapshot.lines(2500, bad=0.04, seed=5)), "utf-8")
    author = next(corpus.read(str(source), Reading())).authors[0]
    for keep in (Filter(), Filter(("cs",), since=2007), Filter(authors=(author,))):
        apart = Reading()
        papers = [paper for paper in corpus.read(str(source), apart) if keep.keeps(paper)]
        reading = corpus.write(str(source), tmp_path / "papers.arrow", keep)
        assert list(PaperTable(tmp_path / "papers.arrow")) == papers
        assert (reading.read, reading.rejects, reading.reasons) == (apart.read, apart.rejects, apart.reasons)
        assert reading.filtered == reading.read - reading.rejected - len(papers)
