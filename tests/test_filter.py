"""Filters over a table of papers against the filter of one paper, and whose name is whose."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import UserError
from data.filter import Filter, Selection
from data.names import name_words, same_author
from data.paper import Paper, to_batch
from data.table import BATCH, PaperTable, PaperWriter

NAMES = (
    "Yoshua Bengio",
    "Samy Bengio",
    "Y. Bengio",
    "Łukasz Kaiser",
    "Jürgen Schmidhuber",
    "Li",
    "Fei-Fei Li",
)
CATEGORIES = ("cs.CL", "cs.LG", "cs", "math.ST", "stat.ML", "hep-th")

papers_of = st.lists(
    st.builds(
        Paper,
        paper_id=st.just("x"),
        title=st.just("A title"),
        authors=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
        year=st.none() | st.integers(1990, 1995),
        categories=st.lists(st.sampled_from(CATEGORIES), max_size=2).map(tuple),
    ),
    max_size=20,
)
filters = st.builds(
    Filter,
    categories=st.lists(st.sampled_from((*CATEGORIES, "stat", "c", "")), max_size=2).map(tuple),
    since=st.none() | st.integers(1989, 1996),
    until=st.none() | st.integers(1989, 1996),
    authors=st.lists(st.sampled_from((*NAMES, "bengio", "schmidhuber", "Kaiser, L.")), max_size=2).map(tuple),
)


def table(folder: Path, papers: list[Paper]) -> PaperTable:
    with PaperWriter(folder / "papers.arrow") as writer:
        for paper in papers:
            writer.add(paper)
    return PaperTable(folder / "papers.arrow")


@given(papers_of, filters)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_is_filtered_as_its_papers_are(tmp_path: Path, papers: list[Paper], keep: Filter) -> None:
    selection = Selection(table(tmp_path, papers), keep)
    assert selection.mask.tolist() == [keep.keeps(paper) for paper in papers]
    assert selection.rows.tolist() == [row for row, paper in enumerate(papers) if keep.keeps(paper)]
    assert len(selection) == len(selection.rows)
    assert keep.of_batch(to_batch(papers)).tolist() == selection.mask.tolist()


@pytest.mark.parametrize("count", [0, 1, BATCH, 300 * BATCH + 7])
def test_every_row_of_a_table_is_looked_at(tmp_path: Path, count: int) -> None:
    papers = [Paper("x", "A title", authors=(f"Ann A{n % 7}",), year=2000 + n % 3) for n in range(count)]
    keep = Filter(since=2001, until=2001, authors=("A3", "a5"))
    expected = [row for row in range(count) if row % 3 == 1 and row % 7 in (3, 5)]
    assert Selection(table(tmp_path, papers), keep).rows.tolist() == expected


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Bengio", "Yoshua Bengio"),
        ("BENGIO", "Yoshua Bengio"),
        ("Yoshua Bengio", "Yoshua Bengio"),
        ("Bengio, Yoshua", "Yoshua Bengio"),
        ("Y. Bengio", "Yoshua Bengio"),
        ("Yoshua Bengio", "Y. Bengio"),
        ("Geoffrey Hinton", "Geoffrey E. Hinton"),
        ("G. E. Hinton", "Geoffrey Everest Hinton"),
        ("schmidhuber", "Jürgen Schmidhuber"),
        ("Jurgen Schmidhuber", "Jürgen Schmidhuber"),
        ("Jürgen Schmidhuber", "Jurgen Schmidhuber"),
        ("Lukasz Kaiser", "Łukasz Kaiser"),
        ("Soren Groß", "Søren Gross"),
        ("Erdős", "Paul Erdo\u0308s"),
        ("Garcia Marquez", "Gabriel García Márquez"),
        ("van den Oord", "Aaron van den Oord"),
        ("Oord", "Aaron van den Oord"),
        ("O'Neil", "Cathy O’Neil"),
        ("Jean Baptiste Michel", "Jean-Baptiste Michel"),
        ("King", "Martin Luther King Jr."),
        ("Martin King, Jr.", "Martin Luther King"),
        ("何恺明", "何恺明"),
        ("ИВАНОВ", "Пётр Иванов"),
    ],
)
def test_a_name_is_found_without_case_accents_and_by_initials(wanted: str, name: str) -> None:
    assert same_author(name_words(wanted), name_words(name))
    assert Filter(authors=(wanted,)).keeps(Paper("x", "A title", authors=("Nobody", name)))


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("Yoshua Bengio", "Samy Bengio"),
        ("Y. Bengio", "Samy Bengio"),
        ("Yoshua Bengio", "Bengio"),
        ("Yoshua", "Yoshua Bengio"),
        ("Beng", "Yoshua Bengio"),
        ("Li", "Ann Lin"),
        ("E. G. Hinton", "Geoffrey E. Hinton"),
        ("Bengio", ""),
        ("Jr", "Martin King Jr."),
    ],
)
def test_another_name_is_not_found(wanted: str, name: str) -> None:
    assert not same_author(name_words(wanted), name_words(name))


@pytest.mark.parametrize("name", ["", " ", "!?", ", "])
def test_an_author_without_a_letter_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="has no letter; give a family or a full name"):
        Filter(authors=("Li", name))


def test_only_the_filter_without_a_condition_is_false() -> None:
    assert not Filter()
    assert all([Filter(("cs",)), Filter(since=0), Filter(until=2000), Filter(authors=("Li",))])
