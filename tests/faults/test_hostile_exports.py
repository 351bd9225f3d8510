r"""Promise: an export is inert and whole, whatever the titles hold.

It reads back in another program's parser under the same keys, braces are balanced, no line of it begins a
formula, and no command reaches LaTeX that LaTeX's mathematics does not need (`$\input{/etc/passwd}$`).
"""

import json
import random
import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import pybtex.database
import pytest
from citeproc.source.json import CiteProcJSON
from hostile import MARKUP, SIGNS, hostile_texts
from proof import Proof

from data.bibliography import bibtex_records
from data.clean import Rejected, to_paper
from data.exports import FORMATS, export
from data.paper import Paper

pytest_plugins = ["proof"]

COUNT = 500
FORMULAS = (
    "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", "\r=1",
    '=HYPERLINK("http://evil.example")',
)  # fmt: skip
BIBTEX = (
    "{", "}", "}}", "{{", "}, note = {x", "\\", "\\\\", "\\}", "\\{", '"', '" # x # "', "@article{x,",
    "@comment{", "%", "x % y", "#", "~", "^", "$", "$$", "$x", "$x$", "$\\frac{a}{b}$", "$}{$", "\\'",
    '\\"{o}', "and", "others", "a and b", ",", ", Jr.,", "\\end{document}", "\\input{/etc/passwd}",
    "$\\input{/etc/passwd}$", "{\\input x}", "$\\write18{id}$", "$\\immediate\\write18 {id}$",
    "$\\catcode 37=14$", "$\\csname input\\endcsname x$", "$\\openin 1=x$", "$\\href{javascript:x}{y}$",
    "$\\directlua{x}$", "$\\loop\\iftrue\\repeat$", "$\\def\\x{y}$", "$^^5cinput{/etc/passwd}$",
)  # fmt: skip
RIS = (
    "TY  - JOUR", "ER  - ", "\nER  - \nTY  - BOOK\n", "\r\nTI  - other", "\x85TI  - x", "\u2028TI  - x",
    "\x0bA",
)  # fmt: skip
# What can read or write files, run programs or change how the rest is read, in any TeX.
DANGEROUS = re.compile(
    r"\\(?:input|include|openin|openout|read|write|immediate|special|catcode|csname|def|edef|gdef|let|loop"
    r"|directlua|href|url|usepackage|newcommand|expandafter|jobname|verbatiminput|lstinputlisting)(?![a-z])|\^\^"
)


def hostile_papers(count: int = COUNT) -> list[Paper]:
    """Papers as they come out of data.clean, with something hostile in each of their texts."""
    chance = random.Random(3)
    pieces = (*FORMULAS, *BIBTEX, *RIS, *MARKUP, *SIGNS)
    papers = []
    for number, text in enumerate(hostile_texts(count, seed=4)):
        some = ["".join(chance.choices(pieces, k=chance.randint(1, 4))) for _ in range(4)]
        title = pieces[number] if number < len(pieces) else chance.choice((some[0], text[:300]))
        record = {
            "id": f"x:{number}",
            "title": title if re.search(r"\S", to_title(title)) else f"T{number}",
            "authors": [some[1], some[2], "Ann Author"],
            "venue": some[3],
            "abstract": text[:500],
            "doi": chance.choice(("", "10.1000/182", some[0])),
            "categories": [some[1]],
            "year": chance.choice((None, 1999)),
        }
        papers.append(to_paper(record))
    return papers


def to_title(title: str) -> str:
    """What is left of a title after cleaning."""
    try:
        return to_paper({"title": title}).title
    except Rejected:
        return ""


@pytest.fixture(scope="module")
def papers() -> list[Paper]:
    return hostile_papers()


def keys_of(form: str, text: str) -> list[str]:
    """The keys that another program's reader finds, in their order."""
    if form == "bibtex":
        return list(pybtex.database.parse_string(text, "bibtex").entries)
    if form == "ris":
        return re.findall(r"^ID  - (.*)$", text, re.MULTILINE)
    return list(CiteProcJSON(json.loads(text)))


def letters(text: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text))


def test_every_export_is_read_back_whole_by_another_reader(papers: list[Paper]) -> None:
    assert len(papers) == COUNT
    written = {form: export(papers, form) for form in FORMATS}
    keys = keys_of("bibtex", written["bibtex"])
    assert len(keys) == len({key.lower() for key in keys}) == COUNT
    assert all(re.fullmatch("[a-z0-9]{1,100}", key) for key in keys)
    for form, text in written.items():
        assert [key.lower() for key in keys_of(form, text)] == keys


def test_csl_and_ris_say_what_the_records_say(papers: list[Paper]) -> None:
    for item, paper in zip(json.loads(export(papers, "csl-json")), papers, strict=True):
        assert item["title"] == paper.title
    for lines, paper in zip(ris_lines(export(papers, "ris")), papers, strict=True):
        assert [line[6:] for line in lines if line.startswith("TI  - ")] == [paper.title]
        assert [line[6:] for line in lines if line.startswith("AU  - ")].__len__() == len(paper.authors)


def ris_lines(text: str) -> list[list[str]]:
    """The lines of every entry. All of them have a tag, and none a line end of any kind within."""
    entries: list[list[str]] = []
    for line in text.split("\n"):
        assert not line.strip() or re.match(r"[A-Z][A-Z0-9]  - ?", line), line
        assert len(line.splitlines()) <= 1
        if line.startswith("TY  - "):
            entries.append([])
        if line.strip():
            entries[-1].append(line)
    assert all(entry[-1].rstrip() == "ER  -" for entry in entries)
    return entries


def test_bibtex_is_balanced_one_field_a_line_and_comes_back(papers: list[Paper], proof: Proof) -> None:
    for paper in papers:
        entry = export([paper], "bibtex")
        first, *fields, last = entry.rstrip("\n").split("\n")
        assert re.fullmatch(r"@(?:misc|article|inproceedings)\{[a-z0-9]+,", first)
        assert last == "}"
        for field in fields:
            assert re.fullmatch(r"\t?[a-z]+ = \{.*\},?", field), field
            assert balanced(field), field
        assert not control_signs(entry)
        ((_, record),) = bibtex_records(entry)
        again = to_paper(record)
        # LaTeX has no name for some letters of small scripts, such as Ŧ and ĸ.
        alike = SequenceMatcher(None, letters(again.title), letters(paper.title), False).ratio()
        proof.check(alike > 0.9, f"{paper.title!r} came back as {again.title!r}")
    proof.end("exports: BibTeX that comes back", COUNT)


def balanced(text: str) -> bool:
    """As BibTeX counts, which knows no escaped brace."""
    depth = 0
    for sign in text:
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return depth == 0


def control_signs(text: str) -> list[str]:
    return [sign for sign in text if not (sign.isprintable() or sign in "\n\t") and sign < "\u00a0"]


def test_no_command_reaches_latex_that_mathematics_does_not_need(papers: list[Paper]) -> None:
    titles = [paper.title for paper in papers]
    assert sum("\\input" in title for title in titles) > 5  # they are there to be disarmed
    for entry in (export([paper], "bibtex") for paper in papers):
        assert not DANGEROUS.search(entry), entry


@pytest.mark.parametrize("form", FORMATS)
def test_no_line_or_cell_of_an_export_is_a_formula(form: Any, papers: Sequence[Paper]) -> None:
    assert form in ("bibtex", "ris", "csl-json")  # a table of cells would need its own quoting, and test
    for line in export(papers, form).splitlines():
        assert line.strip()[:1] not in ("=", "+", "-") or form == "csl-json", line
        if line.startswith("@"):
            assert re.fullmatch(r"@[a-z]+\{[a-z0-9]+,", line)
