"""Exports read by other programs' readers: pybtex for BibTeX, RISparser for RIS, citeproc for CSL-JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pybtex.database
import pytest
from citeproc import Citation, CitationItem, CitationStylesBibliography, CitationStylesStyle, formatter
from citeproc.source.json import CiteProcJSON
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clean import to_paper
from data.errors import UserError
from data.exports import FORMATS, export, name_parts
from data.keys import KEY_STYLES, KeyStyle, citation_key, unique_key
from data.library import keys_for, parse_bibliography, read_bibliography, with_entries
from data.manuscript import source_of
from data.matching import normal_title, same_paper
from data.paper import Paper

ATTENTION = Paper(
    "arxiv:1706.03762",
    "Attention Is All You Need",
    "An abstract — with a dash.",
    ("Ashish Vaswani", "Noam Shazeer", "Łukasz Kaiser"),
    2017,
    ("cs.CL", "cs.LG"),
)
BERT = Paper(
    "acl:N19-1423", "BERT: {Deep} & $x^2$ 50%", "", ("Jacob Devlin", "Ludwig van Beethoven"), 2019, (),
    "NAACL", "10.18653/v1/N19-1423",
)  # fmt: skip
JOURNAL = Paper(
    "doi:10.1000/182", "On <i>Things</i>", "", ("Sammy Davis Jr.", "DeepMind Team", "Plato"),
    1970, (), "Nature",
)  # fmt: skip
PAPERS = (ATTENTION, BERT, JOURNAL)


def ris_entries(text: str) -> list[dict[str, list[str]]]:
    """A reader of RIS by its published grammar alone: two letters or digits, two spaces, a dash, a space."""
    entries: list[dict[str, list[str]]] = []
    for line in text.split("\n"):
        match = re.fullmatch(r"([A-Z][A-Z0-9])  - ?(.*)", line)
        if match and match[1] == "TY":
            entries.append({})
        if match:
            entries[-1].setdefault(match[1], []).append(match[2])
        else:
            assert not line.strip()
    assert all(next(iter(entry)) == "TY" and list(entry)[-1] == "ER" for entry in entries)
    return entries


def test_ris_says_what_the_records_say() -> None:
    preprint, meeting, article = ris_entries(export(PAPERS, "ris"))
    assert preprint == {
        "TY": ["UNPB"],
        "ID": ["vaswani2017attention"],
        "TI": ["Attention Is All You Need"],
        "AU": ["Vaswani, Ashish", "Shazeer, Noam", "Kaiser, Łukasz"],
        "PY": ["2017"],
        "AB": ["An abstract — with a dash."],
        "KW": ["cs.CL", "cs.LG"],
        "AN": ["arXiv:1706.03762"],
        "UR": ["https://arxiv.org/abs/1706.03762"],
        "ER": [""],
    }
    assert (meeting["TY"], meeting["T2"], meeting["DO"]) == (["CPAPER"], ["NAACL"], ["10.18653/v1/N19-1423"])
    assert meeting["AU"] == ["Devlin, Jacob", "van Beethoven, Ludwig"]
    assert article["TY"] == ["JOUR"]
    assert article["AU"] == ["Davis, Sammy, Jr.", "DeepMind Team", "Plato"]


def test_bibtex_of_several_papers_is_read_by_pybtex() -> None:
    twice = (*PAPERS, Paper("arxiv:1", "Attention of another", authors=("A. Vaswani",), year=2017))
    library = pybtex.database.parse_string(export(twice, "bibtex"), "bibtex")
    assert list(library.entries) == [
        "vaswani2017attention", "devlin2019bert", "davis1970i", "vaswani2017attentiona",
    ]  # fmt: skip
    fields = library.entries["vaswani2017attention"].fields
    assert (fields["eprint"], fields["archiveprefix"], fields["primaryclass"]) == (
        "1706.03762", "arXiv", "cs.CL",
    )  # fmt: skip


def test_csl_json_is_cited_by_citeproc() -> None:
    items = json.loads(export(PAPERS, "csl-json"))
    assert items[0] == {
        "id": "vaswani2017attention",
        "type": "article",
        "title": "Attention Is All You Need",
        "author": [
            {"family": "Vaswani", "given": "Ashish"},
            {"family": "Shazeer", "given": "Noam"},
            {"family": "Kaiser", "given": "Łukasz"},
        ],
        "issued": {"date-parts": [[2017]]},
        "URL": "https://arxiv.org/abs/1706.03762",
        "abstract": "An abstract — with a dash.",
        "keyword": "cs.CL, cs.LG",
        "archive": "arXiv",
        "archive_location": "1706.03762",
        "number": "arXiv:1706.03762",
    }
    style = CitationStylesStyle("harvard-cite-them-right", validate=False)
    bibliography = CitationStylesBibliography(style, CiteProcJSON(items), formatter.plain)
    for item in items:
        bibliography.register(Citation([CitationItem(item["id"])]))
    lines = [str(line) for line in bibliography.bibliography()]
    assert any("Vaswani" in line and "2017" in line and "Attention Is All You Need" in line for line in lines)
    assert any("van Beethoven" in line and "NAACL" in line for line in lines)


# As the schema of CSL-JSON 1.0.2 has them: the names and types of what is exported.
CSL_TYPES = {"article", "article-journal", "paper-conference"}
CSL_TEXTS = {
    "title", "container-title", "DOI", "URL", "abstract", "keyword", "archive", "archive_location", "number",
}  # fmt: skip
CSL_NAME = {"family", "given", "non-dropping-particle", "suffix", "literal"}


def check_csl(item: dict[str, Any]) -> None:
    assert set(item) <= CSL_TEXTS | {"id", "type", "author", "issued"}
    assert item["type"] in CSL_TYPES
    assert all(isinstance(item[name], str) and item[name] for name in CSL_TEXTS & set(item))
    assert all(set(name) <= CSL_NAME and all(name.values()) for name in item.get("author", ()))
    assert all(isinstance(part, int) for part in item.get("issued", {"date-parts": [[]]})["date-parts"][0])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=3), st.text(), st.text()), max_size=4),
    st.sampled_from(KEY_STYLES),
)
def test_any_papers_are_exported_whole(rows: list[tuple[str, list[str], str, str]], style: KeyStyle) -> None:
    papers = [
        to_paper({"title": f"T {title}", "authors": authors, "venue": venue, "abstract": abstract})
        for title, authors, venue, abstract in rows
    ]
    items = json.loads(export(papers, "csl-json", style))
    for item in items:
        check_csl(item)
    keys = [item["id"] for item in items]
    assert len({key.lower() for key in keys}) == len(papers)
    assert [entry["ID"] for entry in ris_entries(export(papers, "ris", style))] == [[key] for key in keys]
    assert [entry["TI"][0] for entry in ris_entries(export(papers, "ris", style))] == [
        p.title for p in papers
    ]
    assert list(pybtex.database.parse_string(export(papers, "bibtex", style), "bibtex").entries) == keys


@pytest.mark.parametrize("form", FORMATS)
def test_no_papers_are_an_empty_file(form: Any) -> None:
    assert export((), form).strip() in ("", "[]")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ada Lovelace", {"family": "Lovelace", "given": "Ada"}),
        ("Ludwig van Beethoven", {"family": "Beethoven", "given": "Ludwig", "non-dropping-particle": "van"}),
        ("A. B. de la Cruz", {"family": "Cruz", "given": "A. B.", "non-dropping-particle": "de la"}),
        ("Martin Luther King Jr.", {"family": "King", "given": "Martin Luther", "suffix": "Jr."}),
        ("Plato", {"literal": "Plato"}),
        ("ATLAS Collaboration", {"literal": "ATLAS Collaboration"}),
        ("van Gogh", {"family": "Gogh", "given": "van"}),
    ],
)
def test_names_are_taken_apart(name: str, parts: dict[str, str]) -> None:
    assert name_parts(name) == parts


@pytest.mark.parametrize(
    ("style", "keys"),
    [
        ("scholar", ["vaswani2017attention", "devlin2019bert", "davis1970i"]),
        ("acl", ["vaswani-etal-2017-attention", "devlin-beethoven-2019-bert", "davis-etal-1970-i"]),
        ("author-year", ["vaswani2017", "devlin2019", "davis1970"]),
        ("alpha", ["VSK17", "DB19", "DTP70"]),
        ("id", ["arxiv-1706.03762", "acl-N19-1423", "doi-10.1000-182"]),
    ],
)
def test_keys_have_styles(style: KeyStyle, keys: list[str]) -> None:
    assert [citation_key(paper, style) for paper in PAPERS] == keys


def test_a_taken_key_gets_letters_until_it_is_free() -> None:
    taken = {"vaswani2017attention", *(f"vaswani2017attention{chr(97 + n)}" for n in range(26))}
    assert unique_key(ATTENTION, taken) == "vaswani2017attentionaa"


@pytest.mark.parametrize(
    ("entry", "paper", "same"),
    [
        ("@misc{k, title={X}, eprint={1706.03762v2}, archiveprefix={arXiv}}", ATTENTION, True),
        ("@misc{k, title={X}, doi={10.48550/arXiv.1706.03762}}", ATTENTION, True),
        ("@misc{k, title={{ATTENTION} is all you   need.}}", ATTENTION, True),
        ("@misc{k, title={Attention is All You Need}, author={Vaswani, A. and Others}}", ATTENTION, True),
        ("@misc{k, title={Attention is All You Need}, author={Doe, Jane}}", ATTENTION, False),
        ("@misc{k, title={Attention is All You Need}, eprint={2001.00001}}", ATTENTION, False),
        ("@misc{k, title={X}, doi={10.18653/V1/n19-1423}}", BERT, True),
        ("@misc{k, title={X}, url={https://aclanthology.org/N19-1423}}", BERT, True),
        ("@misc{k, title={X}, doi={https://doi.org/10.1000/182}}", JOURNAL, True),
        ("@misc{k, title={Another title altogether}}", ATTENTION, False),
    ],
)
def test_an_entry_is_matched_by_id_doi_or_title(entry: str, paper: Paper, same: bool) -> None:
    library = parse_bibliography(source_of(Path("refs.bib"), entry.encode()))
    assert library.key_of(paper) == ("k" if same else None)


def test_short_titles_match_nothing() -> None:
    assert not same_paper(Paper("a", "Editorial"), Paper("b", "Editorial"))


def test_titles_are_compared_by_their_letters() -> None:
    assert normal_title(r"The \emph{Näive} $\ell_1$-Approach:  深度") == "thenaive1approach深度"


def test_keys_are_those_of_the_library_or_new_and_unlike_all_others() -> None:
    text = (
        "@misc{mine, title={Attention Is All You Need}}\n@misc{Devlin2019BERT, title={Z}}\n@misc{a, title={"
    )
    library = parse_bibliography(source_of(Path("refs.bib"), text.encode()))
    assert keys_for(PAPERS, [library]) == {
        "arxiv:1706.03762": "mine",
        "acl:N19-1423": "devlin2019berta",
        "doi:10.1000/182": "davis1970i",
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_entries_are_added_at_the_end_in_the_file_s_own_line_ends(newline: str, end: str) -> None:
    text = f"@string{{a = {{b}}}}\n% a comment\n@misc{{x, title={{Näive}}}}{end}".replace("\n", newline)
    library = parse_bibliography(source_of(Path("refs.bib"), text.encode("latin-1")))
    new = with_entries(library, [(ATTENTION, "k1"), (BERT, "k2")])
    assert new.content.startswith(text.encode("latin-1"))
    if newline == "\r\n":
        assert "\n" not in new.text.replace("\r\n", "") or end == ""
    again = pybtex.database.parse_string(new.text.replace("\r\n", "\n"), "bibtex")
    assert list(again.entries) == ["x", "k1", "k2"]


def test_a_file_that_cannot_take_an_entry_says_why() -> None:
    open_entry = parse_bibliography(source_of(Path("refs.bib"), b"@misc{x, title={never closed"))
    with pytest.raises(UserError, match=r"refs.bib: line 1: .*; mend that entry"):
        with_entries(open_entry, [(ATTENTION, "k")])
    latin = parse_bibliography(source_of(Path("refs.bib"), "@misc{x, title={Näive}}".encode("latin-1")))
    with pytest.raises(UserError, match="latin-1, which has no '深'; save it as UTF-8"):
        with_entries(latin, [(Paper("x", "深度"), "k")])


def test_a_bib_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    library = read_bibliography(tmp_path / "new.bib")
    assert (library.entries, library.keys, library.rejects) == ((), frozenset(), ())
    assert with_entries(library, [(ATTENTION, "k")]).text.startswith("@misc{k,")
