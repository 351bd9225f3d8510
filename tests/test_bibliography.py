"""BibTeX in, against files as people have them; BibTeX out, against pybtex as a second reader."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pybtex.database
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text
from test_clean import paper_or_reason

from data.bibliography import bibtex, bibtex_records
from data.clean import Rejected, to_paper
from data.keys import citation_key
from data.paper import Paper

LIBRARY = r"""
@string{nips = "Advances in Neural Information Processing Systems"}
@comment{not read}
@article{accents,
  title = {Schr{\"o}dinger's {BERT} and $x^{2}$-things \& 50\% more --- na{\"\i}ve},
  author = {Knuth, Donald E. and {Barnes and Noble} and Bj{\o}rn M{\"u}ller and
            van Beethoven, Ludwig and King, Jr., Martin and others},
  year = 2019, journal = nips,
}
@article{accents, title = {The same key again}}
@article{twofields, title = {One}, title = {Two}}
@article{broken, title = {never closed, year = 2001}
@misc{eprint, title = "Quoted {T}itle", eprint = {1706.03762v5}, archivePrefix = {arXiv}, doi = {10.1/x}}
@article{scholar, title = {As a search engine writes it}, journal = {arXiv preprint arXiv:1409.0473}}
@article{dblp, title = {As DBLP writes it}, journal = {CoRR}, volume = {abs/1412.6980}}
@misc{web, title = {By address}, url = {https://arxiv.org/abs/hep-th/9901001v2}, DOI = {10.1/y}}
@inproceedings{acl, title = {In the Anthology}, url = {https://aclanthology.org/N19-1423/}, doi = {10.2/z}}
@book{doi, title = {With a DOI}, doi = {https://doi.org/10.1007/978\_12}, author = {Foo, a, b, c, d}}
@misc{other, title = {Another archive}, eprint = {1234567}, eprinttype = {pubmed}}
@article{notitle, year = 1999}
@article{nocomma title = {x}}
""".strip()


def papers(source: str) -> dict[str, Paper | str]:
    """Place to paper, or to the reason why there is none."""
    return {place: paper_or_reason(record) if not isinstance(record, Rejected) else str(record)
            for place, record in bibtex_records(source)}  # fmt: skip


def test_a_library_gives_its_papers_in_order_with_their_lines() -> None:
    found = papers(LIBRARY)
    assert list(found) == [f"line {n}" for n in (3, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)]
    assert {place: paper.paper_id for place, paper in found.items() if isinstance(paper, Paper)} == {
        "line 3": "bib:accents",
        "line 12": "arxiv:1706.03762",
        "line 13": "arxiv:1409.0473",
        "line 14": "arxiv:1412.6980",
        "line 15": "arxiv:hep-th/9901001",
        "line 16": "acl:N19-1423",
        "line 17": "doi:10.1007/978_12",
        "line 18": "bib:other",
    }


def test_latex_and_names_are_decoded() -> None:
    paper = papers(LIBRARY)["line 3"]
    assert isinstance(paper, Paper)
    assert paper.title == "Schrödinger's BERT and $x^{2}$-things & 50% more — naïve"
    assert paper.authors == (
        "Donald E. Knuth", "Barnes and Noble", "Bjørn Müller", "Ludwig van Beethoven", "Martin King Jr.",
    )  # fmt: skip
    assert paper.venue == "Advances in Neural Information Processing Systems"
    assert paper.year == 2019


def test_broken_entries_are_rejected_with_line_and_reason(capfd: pytest.CaptureFixture[str]) -> None:
    reasons = {place: reason for place, reason in papers(LIBRARY).items() if isinstance(reason, str)}
    assert reasons == {
        "line 9": "Duplicate entry key 'accents'",
        "line 10": "Duplicate field keys on entry: 'title'",
        "line 11": "Unexpected block start: `@misc`. Was still looking for field-value closing `,` or `}`",
        "line 19": "no title",
        "line 20": "Expected comma after entry key, but found =",
    }
    assert capfd.readouterr() == ("", "")  # the library's own warnings would say it twice


@pytest.mark.parametrize(
    "source", ["", "no BibTeX at all", "{", "@", "@article", "@article{", '@a{b, c = "', "\x00"]
)
def test_what_is_no_bibtex_gives_no_paper(source: str) -> None:
    assert not any(isinstance(paper, Paper) for paper in papers(source).values())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*'@{}"\\,=%$\n aé~', "@article{k", "title", "author", " and ", "\\'", "{\\"]))
)
def test_no_bibtex_makes_the_reader_fail(pieces: list[str]) -> None:
    for source in (
        "".join(pieces),
        "@misc{k, title = {" + "".join(pieces),
        f"@a{{k, author = {{{''.join(pieces)}}}, title={{T}}}}",
    ):
        papers(source)


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="{}\\$%^_~'\"ab ", max_size=30))
def test_no_latex_makes_the_reader_fail(value: str) -> None:
    papers(f"@misc{{k, title = {{{value}}}, author = {{{value}}}}}")


def test_field_names_are_read_in_any_case() -> None:
    source = "@Article{k, Title = {T}, AUTHOR = {Knuth, D. E. and Foo, a, b, c}, Year = {1999}}"
    assert list(papers(source).values()) == [Paper("bib:k", "T", "", ("D. E. Knuth", "Foo a b c"), 1999)]


# Out

DECODER = LatexNodes2Text(math_mode="verbatim")


def second_reading(entry: str) -> tuple[str, pybtex.database.Entry]:
    ((key, parsed),) = pybtex.database.parse_string(entry, "bibtex").entries.items()
    return key, parsed


def decoded(latex: str) -> str:
    """LaTeX as text; the three commands that the decoder does not know are put in afterwards."""
    unknown = {"{\\textbraceleft}": "\ue001", "{\\textbraceright}": "\ue002", "{\\textasciicircum}": "\ue003"}
    for command, mark in unknown.items():
        latex = latex.replace(command, mark)
    text: str = DECODER.latex_to_text(latex)
    return text.translate({0xE001: "{", 0xE002: "}", 0xE003: "^"})


LIGATURES = {"—": "---", "–": "--", "“": "``", "”": "''", "‘": "`", "’": "'", "¿": "?`", "¡": "!`"}


def as_typed(text: str) -> str:
    """Without blanks, and with dashes and quotes as LaTeX's source has them, which a record's may be too."""
    return re.sub(r"\s", "", unicodedata.normalize("NFC", text)).translate(str.maketrans(LIGATURES))


PAPER = Paper(
    "arxiv:1706.03762",
    "Attention Is All You Need",
    authors=("Ashish Vaswani", "Łukasz Kaiser", "Martin Luther King Jr.", "Ludwig van Beethoven"),
    year=2017,
    categories=("cs.CL", "cs.LG"),
    version=7,
)


def test_an_arxiv_paper_is_a_misc_entry_with_its_eprint() -> None:
    assert bibtex(PAPER) == (
        "@misc{vaswani2017attention,\n"
        "\ttitle = {Attention Is All You Need},\n"
        "\tauthor = {Ashish Vaswani and {\\L}ukasz Kaiser and King, Jr., Martin Luther"
        " and Ludwig van Beethoven},\n"
        "\tyear = {2017},\n"
        "\teprint = {1706.03762},\n"
        "\tarchiveprefix = {arXiv},\n"
        "\tprimaryclass = {cs.CL},\n"
        "\turl = {https://arxiv.org/abs/1706.03762}\n"
        "}\n"
    )


def test_pybtex_reads_every_author_as_one_person() -> None:
    _, entry = second_reading(bibtex(PAPER))
    people = entry.persons["author"]
    assert [DECODER.latex_to_text(" ".join(p.last_names)) for p in people] == [
        "Vaswani", "Kaiser", "King", "Beethoven",
    ]  # fmt: skip
    assert people[2].lineage_names == ["Jr."]
    assert people[3].prelast_names == ["van"]


def test_organisations_and_odd_names_stay_one_person() -> None:
    names = ("Barnes and Noble", "Google, Inc.", "others", "AND", "O'Reilly Media", "Ünal {x", "李 明")
    _, entry = second_reading(bibtex(Paper("x", "T", authors=names)))
    assert tuple(decoded(str(person)) for person in entry.persons["author"])[:4] == names[:4]
    assert len(entry.persons["author"]) == len(names)


@pytest.mark.parametrize(
    ("paper", "kind", "fields"),
    [
        (Paper("acl:N19-1423", "T", venue="Proceedings of NAACL & co"), "inproceedings",
         {"booktitle": "Proceedings of NAACL {\\&} co", "url": "https://aclanthology.org/N19-1423/"}),
        (Paper("doi:10.1162/neco.1997.9.8.1735", "T", venue="Neural Computation"), "article",
         {"journal": "Neural Computation", "doi": "10.1162/neco.1997.9.8.1735",
          "url": "https://doi.org/10.1162/neco.1997.9.8.1735"}),
        (Paper("y", "T", venue="CVPR 2016"), "inproceedings", {"booktitle": "CVPR 2016"}),
        (Paper("z", "T", venue="TACL 2017"), "article", {"journal": "TACL 2017"}),
        (Paper("x", "T", venue="Workshop on X"), "inproceedings", {"booktitle": "Workshop on X"}),
        (Paper("x", "T"), "misc", {}),
        (Paper("x", "T", doi="10.1000/a_b"), "misc",
         {"doi": "10.1000/a_b", "url": "https://doi.org/10.1000/a_b"}),
        (Paper("arxiv:}evil", "T", doi="10.1/}{", categories=("}{",)), "misc", {}),
    ],
)  # fmt: skip
def test_kind_and_fields_follow_from_the_record(paper: Paper, kind: str, fields: dict[str, str]) -> None:
    _, entry = second_reading(bibtex(paper))
    assert entry.type == kind
    assert dict(entry.fields) == {"title": "T"} | fields


@pytest.mark.parametrize(
    ("title", "written"),
    [
        ("BERT: Pre-training of Deep Transformers", "{BERT:} Pre-training of Deep Transformers"),
        ("iPod and the GPUs", "{iPod} and the {GPUs}"),
        ("U-Net for fMRI/EEG", "{U-Net} for {fMRI/EEG}"),
        ("A Pre-Trained Model", "A Pre-Trained Model"),
        ("Über ÖVP", "{\\\"U}ber {{\\\"O}VP}"),
        ("On $O(n)$ and $k$-NN", "On $O(n)$ and {$k$-NN}"),
        ("$\\frac{a_{1}}{b}$", "$\\frac{a_{1}}{b}$"),
        ("$$ and $a$$b$", "{\\$}{\\$} and {\\$}a{\\$}{\\$}b{\\$}"),
        ("From $5 to $10", "From {\\$}5 to {\\$}10"),
        ("100% of C# & D_1", "100{\\%} of C{\\#} {\\&} D{\\_}1"),
        ("~ \\ {x", "{\\textasciitilde} {\\textbackslash} {\\textbraceleft}x"),
    ],
)  # fmt: skip
def test_capitals_are_protected_and_mathematics_is_kept(title: str, written: str) -> None:
    assert re.search(r"title = \{(.*)\}", bibtex(Paper("x", title)))[1] == written  # type: ignore[index]


# Letters that LaTeX has a name for or that stay as they are, and all that is special to LaTeX or BibTeX.
HOSTILE = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs"))
    | st.sampled_from("{}\\$%&#_^~@\"'`- ,")
    | st.sampled_from("äöüßéèñçøłåæœŠžőĭāÅÉ中文日本"),
    min_size=1,
    max_size=60,
).map(lambda text: " ".join(text.split())).filter(bool)  # fmt: skip


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


@settings(deadline=None, max_examples=300)
@given(HOSTILE, st.lists(HOSTILE, max_size=3), st.none() | st.integers(1600, 2099))
def test_hostile_records_come_back_from_a_second_reader(
    title: str, authors: list[str], year: int | None
) -> None:
    paper = Paper("x", title, authors=tuple(authors), year=year)
    written = bibtex(paper)
    assert balanced(written)
    key, entry = second_reading(written)
    assert key == citation_key(paper)
    assert re.fullmatch("[a-z0-9]+", key)
    assert entry.fields.get("year", "") == str(year or "")
    assert as_typed(decoded(entry.fields["title"])) == as_typed(title)
    people = entry.persons.get("author", [])
    assert [as_typed(decoded(in_order(person))) for person in people] == [as_typed(name) for name in authors]


def in_order(person: pybtex.database.Person) -> str:
    """A name as people write it."""
    given = person.first_names + person.middle_names
    return " ".join(given + person.prelast_names + person.last_names + person.lineage_names)


@settings(deadline=None, max_examples=100)
@given(st.text(), st.lists(st.text(), max_size=2), st.text())
def test_any_text_makes_a_balanced_entry_with_a_plain_key(title: str, authors: list[str], venue: str) -> None:
    record = {"title": "T " + title, "authors": authors, "venue": venue}
    paper = to_paper(record)
    written = bibtex(paper)
    assert balanced(written)
    assert re.fullmatch("[a-z0-9]+", second_reading(written)[0])


def test_what_is_written_is_read_back_as_the_same_paper(tmp_path: Path) -> None:
    for paper in (
        PAPER,
        Paper("acl:N19-1423", 'A "Quoted" Title^2 of BERT — ÖVP', authors=("Ann Łęcka",), year=2019),
    ):
        ((_, record),) = bibtex_records(bibtex(paper))
        again = to_paper(record)
        assert (again.paper_id, again.title, again.authors, again.year) == (
            paper.paper_id, paper.title, paper.authors, paper.year,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        (
            {"title": "On the Origin of Species", "authors": ("Charles Darwin",), "year": 1859},
            "darwin1859origin",
        ),
        ({"title": "Straße", "authors": ("Bjørn Łukasiewicz-Müller",)}, "lukasiewiczmullerstrasse"),
        ({"title": "T", "authors": ("Sammy Davis Jr.",), "year": 2000}, "davis2000t"),
        ({"title": "深度学习", "authors": ("李明",), "year": 2020}, "2020"),
        ({"title": "深度学习"}, "anonymous"),
        ({"title": "深度学习", "authors": ("李明",)}, "paper"),
        ({"title": "T", "authors": ("",)}, "t"),
    ],
)
def test_keys_are_of_plain_letters(fields: dict[str, Any], key: str) -> None:
    assert citation_key(Paper("x", **fields)) == key
