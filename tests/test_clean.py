"""Foreign records as papers: text, names, years, identifiers, and whatever JSON may hold."""

import datetime
import decimal
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clean import FIELDS, MAX_FIELD, Rejected, text, to_paper
from data.latex import decode_accents
from data.names import given_first, split_names
from data.paper import Paper, from_rows, to_batch

ARXIV_RECORD: dict[str, Any] = {
    "id": "0704.0001",
    "submitter": "Pavel Nadolsky",
    "authors": "C. Bal\\'azs, E. L. Berger, P. M. Nadolsky, C.-P. Yuan",
    "title": "Calculation of prompt diphoton production cross sections at Tevatron and\n  LHC energies",
    "comments": "37 pages, 15 figures; published version",
    "journal-ref": "Phys.Rev.D76:013009,2007",
    "doi": "10.1103/PhysRevD.76.013009",
    "report-no": "ANL-HEP-PR-07-12",
    "categories": "hep-ph hep-ex",
    "license": None,
    "abstract": "  A fully differential calculation in perturbative quantum\nchromodynamics is presented.\n",
    "versions": [
        {"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"},
        {"version": "v2", "created": "Tue, 24 Jul 2008 20:10:27 GMT"},
    ],
    "update_date": "2008-11-26",
    "authors_parsed": [
        ["Balázs", "C.", ""],
        ["Berger", "E. L.", ""],
        ["Nadolsky", "P. M.", "Jr."],
        ["Yuan", "C. -P.", "", "MSU"],
    ],
}

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
TITLED = st.fixed_dictionaries({"title": ANY_TEXT | JSON}, optional=dict.fromkeys(FIELDS[1:], JSON))
PLAUSIBLE = st.fixed_dictionaries(
    {"title": ANY_TEXT.map(lambda t: "A " + t)},
    optional={
        "id": st.sampled_from(["1706.03762v7", "x1", "hep-th/9901001", 17, "2001.00001v99999999999"]),
        "abstract": ANY_TEXT,
        "authors": ANY_TEXT | st.lists(ANY_TEXT),
        "authors_parsed": st.lists(st.lists(ANY_TEXT, max_size=4), max_size=4),
        "year": st.integers() | st.floats() | st.sampled_from(["2019", "2019-01-02"]),
        "categories": ANY_TEXT | st.lists(ANY_TEXT),
        "version": st.integers(),
        "doi": ANY_TEXT,
    },
)


def paper_of(**fields: Any) -> Paper:
    return to_paper({"title": "A title"} | fields)


def paper_or_reason(record: Any) -> Paper | str:
    try:
        return to_paper(record)
    except Rejected as error:
        return str(error)


def test_a_record_of_arxivs_snapshot_is_read_whole() -> None:
    assert to_paper(ARXIV_RECORD) == Paper(
        paper_id="arxiv:0704.0001",
        title="Calculation of prompt diphoton production cross sections at Tevatron and LHC energies",
        abstract="A fully differential calculation in perturbative quantum chromodynamics is presented.",
        authors=("C. Balázs", "E. L. Berger", "P. M. Nadolsky Jr.", "C. -P. Yuan"),
        year=2007,
        categories=("hep-ph", "hep-ex"),
        venue="Phys.Rev.D76:013009,2007",
        doi="10.1103/PhysRevD.76.013009",
        version=2,
    )


def test_without_parsed_authors_the_list_in_text_is_used() -> None:
    record = {k: v for k, v in ARXIV_RECORD.items() if k != "authors_parsed"}
    assert to_paper(record).authors == ("C. Balázs", "E. L. Berger", "P. M. Nadolsky", "C.-P. Yuan")


@pytest.mark.parametrize(
    "record",
    [
        {"_id": "d1", "title": "T", "text": "An abstract.", "metadata": {}},
        {"corpusid": 17, "title": "T", "abstract": None, "year": 2020, "authors": [{"name": "A. B."}]},
        {"paper_id": "acl:N19-1423", "title": "T", "authors": ["Jacob Devlin"], "year": 2019},
    ],
)
def test_records_of_other_corpora_are_papers(record: dict[str, Any]) -> None:
    paper = to_paper(record)
    assert paper.title == "T"
    assert paper.paper_id == str(next(iter(record.values())))
    assert paper.abstract == (record.get("text") or "")


@settings(deadline=None)
@given(ANY_TEXT)
def test_clean_text_is_one_printable_line_and_stays_as_it_is(value: str) -> None:
    line = text(value)
    line.encode()  # no lone surrogates
    assert text(line) == line
    assert line == " ".join(line.split())
    assert unicodedata.is_normalized("NFC", line)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in line)


@settings(deadline=None)
@given(st.text(st.characters(categories=("L", "N", "P"))))
def test_what_is_clean_is_not_changed_but_normalised(value: str) -> None:
    assert text(value) == unicodedata.normalize("NFC", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\x00b\ud800c\x85d", "a b c d"),
        ("  two\n  lines\r\n", "two lines"),
        ("no\u00a0break\u2028and\ttab", "no break and tab"),
        ("e\u0301", "é"),
        (float("nan"), ""),
        (None, ""),
        (1984, "1984"),
        (decimal.Decimal("1.5"), "1.5"),
        (b"bytes \xff", "bytes \ufffd"),
    ],
)
def test_text_of_any_kind_is_cleaned(value: Any, expected: str) -> None:
    assert text(value) == expected


@pytest.mark.parametrize("value", [["a"], {"en": "a"}, True, ("a",)])
def test_what_is_no_text_is_rejected_by_name(value: Any) -> None:
    with pytest.raises(Rejected, match=f"title: {type(value).__name__}, not text"):
        to_paper({"title": value})


def test_an_over_long_field_is_rejected() -> None:
    assert paper_of(abstract="a" * MAX_FIELD).abstract
    with pytest.raises(Rejected, match="abstract: a field of 100,001 characters"):
        paper_of(abstract="a" * (MAX_FIELD + 1))


@pytest.mark.parametrize("title", [None, "", "  \n", "\x00\ud800", float("nan")])
def test_a_record_without_a_title_is_rejected(title: Any) -> None:
    with pytest.raises(Rejected, match="no title"):
        to_paper({"title": title, "id": "x"})


@settings(deadline=None, max_examples=300)
@given(JSON | TITLED | PLAUSIBLE)
def test_any_json_is_a_paper_or_rejected_and_a_paper_survives_arrow(record: Any) -> None:
    paper = paper_or_reason(record)
    if isinstance(paper, str):
        assert "\n" not in paper
        return
    assert paper.title
    assert paper.paper_id
    assert all(paper.authors)
    assert from_rows(to_batch([paper])) == [paper]
    assert len(paper.content_hash()) == 16


@settings(deadline=None)
@given(PLAUSIBLE)
def test_a_plausible_record_is_a_paper_unless_its_authors_are_odd(record: dict[str, Any]) -> None:
    paper = paper_or_reason(record)
    if isinstance(paper, str):
        assert "not an arXiv id" in paper  # x1 in a record with authors_parsed
    else:
        assert paper.title.startswith("A")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece", ["'", "['", "$", "\\", "\\'{", "a, ", "A. ", " and ", ",,", "; ", "\u0301", " \n", "{"]
)
def test_no_long_field_takes_long(piece: str) -> None:
    line = piece * (MAX_FIELD // len(piece) - 1)
    for authors in (line, "[" + line):
        paper_or_reason({"title": "T" + line, "abstract": line, "authors": authors, "categories": line})


def test_a_paper_written_as_a_row_is_read_back_as_it_was() -> None:
    paper = to_paper(ARXIV_RECORD)
    assert to_paper(to_batch([paper]).to_pylist()[0]) == paper


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2019, 2019),
        (2019.0, 2019),
        ("2019", 2019),
        ("2019-05-01T00:00:00Z", 2019),
        ("May 2019", 2019),
        (datetime.date(2019, 5, 1), 2019),
        (datetime.datetime(2019, 5, 1, tzinfo=datetime.UTC), 2019),
        (decimal.Decimal(2019), 2019),
        (1499, None),
        (20190501, None),
        (math.inf, None),
        (math.nan, None),
        (1e300, None),
        (True, None),
        ("soon", None),
        ({"y": 2019}, None),
    ],
)
def test_years_are_found_in_numbers_and_dates(value: Any, expected: int | None) -> None:
    assert paper_of(year=value).year == expected


def test_the_year_is_that_of_the_first_version() -> None:
    versions = [{"created": "Mon, 2 Apr 2007 19:18:42 GMT"}, {"created": "Mon, 2 Apr 2012 19:18:42 GMT"}]
    assert paper_of(id="0704.0001", versions=versions, update_date="2015-01-01").year == 2007
    assert paper_of(id="0704.0001", versions=["v1"], update_date="2015-01-01").year == 2015


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Knuth, Donald E. and Lamport, Leslie", ["Donald E. Knuth", "Leslie Lamport"]),
        ("Ashish Vaswani, Noam Shazeer and Niki Parmar", ["Ashish Vaswani", "Noam Shazeer", "Niki Parmar"]),
        ("A B, C D, and E F", ["A B", "C D", "E F"]),
        ("A B and C D and E F", ["A B", "C D", "E F"]),
        ("A B & C D", ["A B", "C D"]),
        ("A B; C D ;E F", ["A B", "C D", "E F"]),
        ("Vaswani, A.; Shazeer, N. M.", ["A. Vaswani", "N. M. Shazeer"]),
        ("Vaswani, A., Shazeer, N. M., Parmar, N.", ["A. Vaswani", "N. M. Shazeer", "N. Parmar"]),
        ("Vaswani, Ashish", ["Ashish Vaswani"]),
        ("Jan van den Berg, Ann Lee", ["Jan van den Berg", "Ann Lee"]),
        ("van den Berg, Jan", ["Jan van den Berg"]),
        ("King, Jr., Martin Luther and Doe, Jane", ["Martin Luther King Jr.", "Jane Doe"]),
        ("['Ashish Vaswani', \"Conan O'Brien\"]", ["Ashish Vaswani", "Conan O'Brien"]),
        ("Andy Sandford", ["Andy Sandford"]),
        ("A B and others", ["A B"]),
        ("A B, et al.", ["A B"]),
        ("", []),
        (" , ; ,", []),
    ],
)
def test_author_lists_are_split_as_people_write_them(line: str, names: list[str]) -> None:
    assert split_names(line) == names


def test_a_suffix_stays_behind_the_family_name() -> None:
    assert given_first("King, Jr., Martin") == given_first("Martin King Jr.") == "Martin King Jr."
    assert given_first("Sammy Davis, Jr.") == "Sammy Davis Jr."


@pytest.mark.parametrize(
    ("authors", "names"),
    [
        (
            [{"name": "A B"}, {"given": "C", "family": "D"}, {"first": "E", "last": "F"}],
            ("A B", "C D", "E F"),
        ),
        ([{"authorId": "1", "name": None}, "Devlin, Jacob", None, ""], ("Jacob Devlin",)),
        ({"name": "A B"}, ("A B",)),
        (["Erd\\H{o}s, P."], ("P. Erdős",)),
        (math.nan, ()),
    ],
)
def test_author_lists_may_hold_names_or_records(authors: Any, names: tuple[str, ...]) -> None:
    assert paper_of(authors=authors).authors == names


@pytest.mark.parametrize("field", ["authors", "categories"])
def test_a_number_where_a_list_belongs_is_rejected(field: str) -> None:
    with pytest.raises(Rejected, match=f"{field}: int, not text or a list"):
        paper_of(**{field: 7})


@pytest.mark.parametrize("parsed", [[["A", 5]], [7], [{"a": 1}], ["abc", None]])
def test_parsed_authors_of_the_wrong_kind_are_rejected(parsed: Any) -> None:
    with pytest.raises(Rejected, match="authors_parsed"):
        to_paper(ARXIV_RECORD | {"authors_parsed": parsed})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cs.CL stat.ML", ("cs.CL", "stat.ML")),
        (["cs.CL stat.ML"], ("cs.CL", "stat.ML")),
        ("cs.CL, stat.ML;hep-th", ("cs.CL", "stat.ML", "hep-th")),
        ("['cs.CL', 'stat.ML']", ("cs.CL", "stat.ML")),
        (["Computer Science", "Biology"], ("Computer Science", "Biology")),
        ("Machine Learning; Vision", ("Machine Learning", "Vision")),
        ("math", ("math",)),
        (math.nan, ()),
        ("", ()),
    ],
)
def test_categories_are_split_as_corpora_write_them(value: Any, expected: tuple[str, ...]) -> None:
    assert paper_of(categories=value).categories == expected


@pytest.mark.parametrize(
    ("record", "paper_id", "version"),
    [
        ({"id": "1706.03762v5", "authors_parsed": []}, "arxiv:1706.03762", 5),
        ({"id": "1706.03762", "versions": [{}, {}, {}]}, "arxiv:1706.03762", 3),
        ({"id": "arXiv:hep-th/9901001v2"}, "arxiv:hep-th/9901001", 2),
        ({"id": "math.GT/0309136", "versions": []}, "arxiv:math.GT/0309136", 0),
        ({"id": "http://arxiv.org/abs/1706.03762v5"}, "arxiv:1706.03762", 5),
        ({"paper_id": "arxiv:1706.03762", "version": 4}, "arxiv:1706.03762", 4),
        ({"id": "1706.03762"}, "1706.03762", 0),  # nothing says that it is arXiv's
        ({"id": "arxiv:nonsense"}, "arxiv:nonsense", 0),  # kept, and without a link
    ],
)
def test_identifiers_and_versions(record: dict[str, Any], paper_id: str, version: int) -> None:
    paper = paper_of(**record)
    assert (paper.paper_id, paper.version) == (paper_id, version)


@pytest.mark.parametrize("raw", ["not an id", "x" * 257, "1706.0376²"])
def test_what_is_no_id_is_rejected(raw: str) -> None:
    with pytest.raises(Rejected, match="not an"):
        paper_of(id=raw, versions=[])


def test_a_record_without_an_id_is_known_by_its_title_and_year() -> None:
    same = [to_paper({"title": t, "year": 2000}).paper_id for t in ("A  Title", "a title")]
    assert same[0] == same[1]
    assert same[0].startswith("h:")
    assert to_paper({"title": "A title", "year": 2001}).paper_id != same[0]


@pytest.mark.parametrize(
    "doi",
    ["10.1162/neco", "https://doi.org/10.1162/neco", "http://dx.doi.org/10.1162/neco", "doi: 10.1162/neco"],
)
def test_a_doi_is_plain_however_it_is_written(doi: str) -> None:
    assert paper_of(doi=doi).doi == "10.1162/neco"


@pytest.mark.parametrize(
    ("latex", "letters"),
    [
        ('Schr\\"odinger, Schr{\\"o}dinger, Schr\\"{o}dinger', "Schrödinger, Schrödinger, Schrödinger"),
        ("Erd\\H{o}s, Erd{\\H o}s", "Erdős, Erdős"),
        ("Poincar\\'e, na\\\"{\\i}ve, \\'{\\i}, \\c{c}a, \\v Sebek", "Poincaré, naïve, í, ça, Šebek"),
        ("\\O rsted, \\L{}ukasiewicz, Stra\\ss e, \\AA ngstr{\\o}m", "Ørsted, Łukasiewicz, Straße, Ångstrøm"),
        ("$\\tilde x$ and $\\'e$", "$\\tilde x$ and $\\'e$"),
        ("\\emph{x} \\alpha \\beta \\omega", "\\emph{x} \\alpha \\beta \\omega"),
        ("\\vec{x} \\cite{a} \\data", "\\vec{x} \\cite{a} \\data"),
        ('a\\\\"o', 'a\\\\"o'),
        ("no command at all", "no command at all"),
    ],
)  # fmt: skip
def test_latex_accents_are_letters(latex: str, letters: str) -> None:
    assert decode_accents(latex) == letters


def test_marks_that_turn_the_direction_of_text_are_taken_out() -> None:
    assert text("safe\u202egpj.exe\u2066 title\u2069") == "safe gpj.exe title"
