"""Citing contexts from LaTeX, S2ORC and unarXive, joined to a corpus, and split without leaks."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from conftest import write_corpus
from hypothesis import given
from hypothesis import strategies as st

from data import splits
from data.citing import Catalogue, Citation, Document, Report, extract, reference_of
from data.clean import Rejected
from data.contexts import CITE, OTHER, read_queries
from data.errors import UserError
from data.latex_tree import latex_documents
from data.paper import Paper
from data.parsed_papers import parsed_documents

PAPERS = [
    Paper("arxiv:1706.03762", "Attention Is All You Need", "", ("Ashish Vaswani", "Noam Shazeer"), 2017),
    Paper(
        "acl:N19-1423", "BERT: Pre-training of Deep Bidirectional Transformers", "", ("Jacob Devlin",), 2019
    ),
    Paper("doi:10.1162/neco.1997.9.8.1735", "Long Short-Term Memory", "", ("Sepp Hochreiter",), 1997),
    Paper("arxiv:1412.6980", "Adam: A Method for Stochastic Optimization", "", ("Diederik P. Kingma",), 2014),
    Paper("s2:7", "Deep Learning", "", ("Yann LeCun",), 2015),
    Paper("s2:8", "Deep Learning", "", ("Ian Goodfellow",), 2016),
    Paper("arxiv:2005.14165", "Language Models are Few-Shot Learners", "", ("Tom B. Brown",), 2020),
    Paper("arxiv:2101.00001", "A Study of Citing Papers in the Wild", "", ("Ada Castro",), 2021),
]
CATALOGUE = Catalogue(PAPERS)

MAIN = r"""\documentclass{article}
\usepackage{natbib} % \cite{comment} is none
\newcommand{\ours}{OurNet\xspace}
\newcommand{\citeme}[1]{(see \cite{#1})}
\title{A Study of {Citing} Papers in the Wild}
\begin{document}
\maketitle
\section{Introduction}
Most models build on attention~\citep[see][p.~3]{vaswani17}, and some use recurrence \cite{lstm,unknown}.
\input{sections/method}
As Devlin et al.~\cite{bert} show, e.g. \citet{adam} in Fig.~\ref{f}, pre-training helps a lot.
It is 100\% true.
% \cite{bert} nobody sees
\begin{figure}\caption{A long caption that cites \cite{bert} here.}\end{figure}
\begin{verbatim}\cite{vaswani17} is not cited in this sentence of code\end{verbatim}
\nocite{*}
\bibliography{refs}
\end{document}
This text after the end cites \cite{bert} and is not shown.
"""
METHOD = r"""
We call it \ours and train it with the usual optimizer \citeme{adam} for $10^5$ steps.
\include{../sections/method}
\include{more}
"""
MORE = r"""Large models need few examples \cite{gpt3} \cite{bert};
others need many \parencites{lstm}{vaswani17} of them."""
REFS = r"""
@inproceedings{vaswani17, title={Attention Is All You Need}, author={Vaswani, Ashish and others}, year=2017}
@article{lstm, title={Long Short-Term Memory}, author={Hochreiter, S. and Schmidhuber, J.},
  doi={10.1162/NECO.1997.9.8.1735}}
@inproceedings{bert, title={{BERT}: Pre-training of Deep Bidirectional Transformers}, author={Devlin, Jacob}}
@article{adam, title={Adam}, journal={arXiv preprint arXiv:1412.6980}, author={Kingma, Diederik}}
@misc{gpt3, title={Language models are few-shot learners}, eprint={2005.14165v4}, archiveprefix={arXiv}}
@book{unknown, title={A Book that Nobody Has}, author={Nobody, A.}}
"""
TREE = {"main.tex": MAIN, "sections/method.tex": METHOD, "sections/more.tex": MORE, "refs.bib": REFS}


def plant(folder: Path, tree: dict[str, str] = TREE) -> Path:
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")
    return folder


def packed(path: Path, tree: dict[str, str] = TREE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return path


def rows_of(documents: Any, tmp_path: Path) -> tuple[list[dict[str, Any]], Report]:
    report = extract(documents, CATALOGUE, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == report.contexts
    return rows, report


def shown(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for row in rows:
        texts.setdefault(row["text"], []).append(row["cited_id"])
    return texts


# LaTeX


def test_a_latex_tree_gives_its_citing_sentences(tmp_path: Path) -> None:
    rows, report = rows_of(latex_documents(plant(tmp_path / "2101.00001v2")), tmp_path)
    first = "Most models build on attention {}, and some use recurrence {}."
    many = "Large models need few examples {}; others need many {} of them."
    assert shown(rows) == {
        first.format(CITE, OTHER): ["arxiv:1706.03762"],
        first.format(OTHER, CITE): ["doi:10.1162/neco.1997.9.8.1735"],
        f"We call it OurNet and train it with the usual optimizer {CITE} for $10^5$ steps.": [
            "arxiv:1412.6980"
        ],
        many.format(CITE, OTHER): ["arxiv:2005.14165", "acl:N19-1423"],
        many.format(OTHER, CITE): ["doi:10.1162/neco.1997.9.8.1735", "arxiv:1706.03762"],
        f"As {CITE} show, e.g. {OTHER} in Fig., pre-training helps a lot.": ["acl:N19-1423"],
        f"As Devlin et al. {OTHER} show, e.g. {CITE} in Fig., pre-training helps a lot.": ["arxiv:1412.6980"],
    }
    assert {(row["citing_id"], row["year"], row["family"]) for row in rows} == {
        ("arxiv:2101.00001", 2021, "latex")
    }
    assert {row["group_size"] for row in rows if "many" in row["text"]} == {2}
    assert report.references == {"by identifier": 2, "by DOI": 1, "by title": 2, "not in the corpus": 1}
    assert (report.documents, report.citing_papers, report.cited_papers) == (1, 1, 5)


def test_the_window_goes_beyond_the_sentence_but_not_beyond_fifty_words(tmp_path: Path) -> None:
    before, after = " ".join(f"b{n}" for n in range(80)), " ".join(f"A{n}" for n in range(80))
    body = f"{before}. The sentence cites one paper \\cite{{bert}} of many. {after}."
    tree = {"m.tex": rf"\documentclass{{a}}\begin{{document}}{body}\end{{document}}", "r.bib": REFS}
    (row,), _ = rows_of(latex_documents(plant(tmp_path / "x", tree)), tmp_path)
    left, right = row["window"].split(CITE)
    assert (len(left.split()), len(right.split())) == (50, 50)
    assert row["text"] == f"The sentence cites one paper {CITE} of many."


def test_archives_as_arxiv_has_them_are_read_without_unpacking(tmp_path: Path) -> None:
    expected = shown(rows_of(latex_documents(plant(tmp_path / "2101.00001")), tmp_path)[0])
    many = tmp_path / "many"
    many.mkdir()
    packed(many / "2101.00001.tar.gz")
    title = "BERT: Pre-training of deep bidirectional transformers"
    item = rf"\begin{{thebibliography}}{{9}}\bibitem{{bert}} J. Devlin. {title}.\end{{thebibliography}}"
    single = MAIN.replace(r"\bibliography{refs}", item)
    (many / "hep-th9901001.gz").write_bytes(gzip.compress(single.encode()))
    (many / "broken.gz").write_bytes(gzip.compress(single.encode())[:100])
    (many / "notes.txt").write_text("no paper")
    rows, report = rows_of(latex_documents(many), tmp_path)
    assert shown([row for row in rows if row["citing_id"] == "arxiv:2101.00001"]) == expected
    assert {(r["cited_id"], r["year"]) for r in rows if r["citing_id"] == "arxiv:hep-th/9901001"} == {
        ("acl:N19-1423", 1999)
    }
    assert (report.documents, report.rejected) == (2, 1)
    assert report.rejects[0].startswith("broken.gz: no readable archive")


BBL = {
    "plain": r"""\begin{thebibliography}{10}
\bibitem{bert}
Jacob Devlin and Ming{-}Wei Chang.
\newblock {BERT}: Pre-training of deep bidirectional transformers.
\newblock In {\em NAACL}, 2019.
\bibitem{deep}
Yann LeCun.
\newblock Deep learning.
\newblock {\em Nature}, 2015.
\end{thebibliography}""",
    "natbib": r"""\begin{thebibliography}{1}
\bibitem[{Devlin et~al.(2019)Devlin, Chang}]{bert}
Jacob Devlin. 2019.
\newblock \href{https://doi.org/10.18653/v1/N19-1423}{BERT: pre-training}.
\end{thebibliography}""",
    "revtex": r"""\begin{thebibliography}{1}%
\bibitem [{\citenamefont {Devlin}(2019)}]{bert}%
\BibitemOpen \bibfield {author} {\bibinfo {author} {\bibfnamefont {J.}~\bibnamefont {Devlin}}, }
\bibinfo {title} {BERT: Pre-training of Deep Bidirectional Transformers} \end{thebibliography}""",
    "ieee": r"""\begin{thebibliography}{1}
\bibitem{bert} J.~Devlin, ``{BERT:} Pre-training of deep bidirectional Transformers,'' in \emph{NAACL}, 2019.
\end{thebibliography}""",
    "biber": r"""\entry{bert}{inproceedings}{}
 \name{author}{1}{}{{{hash=1}{family={Devlin},familyi={D\bibinitperiod},given={Jacob}}}}
 \field{title}{{BERT}: Pre-training of Deep Bidirectional Transformers}
 \field{year}{2019}
\endentry""",
}


@pytest.mark.parametrize("style", BBL)
def test_bbl_files_of_every_style_are_joined(tmp_path: Path, style: str) -> None:
    body = (
        r"Everybody fine-tunes a model \cite{bert} these days, which is deep learning \cite{deep} after all."
    )
    tree = {"m.tex": rf"\documentclass{{a}}\begin{{document}}{body}\end{{document}}", "m.bbl": BBL[style]}
    rows, _ = rows_of(latex_documents(plant(tmp_path / "x", tree)), tmp_path)
    assert [row["cited_id"] for row in rows] == ["acl:N19-1423"]
    assert rows[0]["citing_id"] == "document:x"
    assert rows[0]["year"] is None


def test_papers_that_cannot_be_read_are_rejected_by_name_and_the_others_kept(tmp_path: Path) -> None:
    plant(tmp_path / "in" / "a", {"m.tex": r"\documentclass{a} no bibliography"})
    plant(tmp_path / "in" / "b", {"m.tex": "no class", "r.bib": REFS})
    plant(tmp_path / "in" / "2101.00001")
    rows, report = rows_of(latex_documents(tmp_path / "in"), tmp_path)
    assert rows
    assert [reject.split(":")[0] for reject in report.rejects] == ["a", "b"]


def test_inclusions_stay_inside_of_the_tree_and_end(tmp_path: Path) -> None:
    (tmp_path / "secret.tex").write_text(r"The secret of all papers is this \cite{bert} one here.")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link.tex").symlink_to(tmp_path / "secret.tex")
    body = r"\input{../secret}\input{/etc/passwd}\input{link}\input{m}"
    source = rf"\documentclass{{a}}\begin{{document}}{body}\end{{document}}"
    plant(tmp_path / "x", {"m.tex": source, "r.bib": REFS})
    rows, report = rows_of(latex_documents(tmp_path / "x"), tmp_path)
    assert rows == []
    assert report.documents == 1


def test_the_paper_itself_is_not_one_to_find(tmp_path: Path) -> None:
    bib = "@misc{me, title={A Study of Citing Papers in the Wild}, author={Castro, Ada}}"
    body = r"This is the long version of an earlier report \cite{me} of ours."
    tree = {"m.tex": rf"\documentclass{{a}}\begin{{document}}{body}\end{{document}}", "r.bib": bib}
    assert rows_of(latex_documents(plant(tmp_path / "2101.00001", tree)), tmp_path)[0] == []


@given(st.text(alphabet="\\{}[]$%&~ \nabcite,.X", max_size=200))
def test_any_latex_is_read_or_rejected(body: str) -> None:
    from data.latex_tree import _parsed

    source = rf"\documentclass{{a}}\begin{{document}} {body} \cite{{bert}} \end{{document}}"
    try:
        document = _parsed("x", source, {"r.bib": REFS})
    except Rejected:
        return
    assert all(0 <= c.start < c.end <= len(text) for text, citations in document.passages for c in citations)


# Joins


def test_references_are_joined_only_where_they_are_certain() -> None:
    def found(*arguments: Any) -> str:
        join = CATALOGUE.find(reference_of(*arguments))
        return CATALOGUE[join[0]][0] if join else ""

    assert found("A. Vaswani et al. Attention is all you need. NIPS 2017.") == "arxiv:1706.03762"
    assert found("A. Nobody. Attention is all you need. Blog 2017.") == ""
    assert found("Someone Else, 2018", "Attention Is All You Need") == ""
    assert found("Y. LeCun. Deep learning. Nature.", "Deep Learning") == ""  # two have this title
    assert (
        found("S. Hochreiter, Long short-term memory, Neural Comput. 9 (1997)")
        == "doi:10.1162/neco.1997.9.8.1735"
    )
    assert found("Some text, arXiv:1412.6980v9 [cs.LG].") == "arxiv:1412.6980"
    assert found("https://www.aclweb.org/anthology/N19-1423.pdf") == "acl:N19-1423"
    assert found("doi: 10.1162/NECO.1997.9.8.1735.") == "doi:10.1162/neco.1997.9.8.1735"
    assert found("") == found("", "", ("s2:99",)) == ""
    assert found("", "", ("s2:99", "s2:7")) == "s2:7"


def document(passage: str, *keys: str) -> Document:
    """A document of one passage in which each `<>` cites the next of the keys."""
    parts = passage.split("<>")
    citations, length = [], 0
    for part, key in zip(parts, keys, strict=False):
        length += len(part)
        citations.append(Citation(length, length + 1, (key,)))
        length += 1
    references = {p.paper_id: reference_of("", "", (p.paper_id,)) for p in PAPERS}
    return Document(
        "d", "arxiv:2301.00001", "", 2023, "test", ((" ".join(parts), tuple(citations)),), references
    )


VASWANI, BERT = "arxiv:1706.03762", "acl:N19-1423"


@pytest.mark.parametrize(
    ("passage", "keys", "expected"),
    [
        ("Brackets go with the citation [<>] of a paper.", (VASWANI,),
         f"Brackets go with the citation {CITE} of a paper."),
        ("Vaswani et al. (<>) show that models attend.", (VASWANI,), f"{CITE} show that models attend."),
        ("As in work by Vaswani and Shazeer <> we attend.", (VASWANI,), f"As in work by {CITE} we attend."),
        ("We use Adam and BERT <>, which others made.", (BERT,),
         f"We use Adam and BERT {CITE}, which others made."),
        ("One comes first. Two is cited by us here <>. And three.", (BERT,),
         f"Two is cited by us here {CITE}."),
        ("Short, i.e. <> is cited with J. Doe et al. in Sec. 3 too.", (BERT,),
         f"Short, i.e. {CITE} is cited with J. Doe et al. in Sec. 3 too."),
        ("A bracket with more (see <>) keeps its words here.", (BERT,),
         f"A bracket with more (see {CITE}) keeps its words here."),
        ("A sentence ends before all that. <> begin the next one of it.", (BERT,),
         f"{CITE} begin the next one of it."),
    ],
)  # fmt: skip
def test_sentences_and_marks(tmp_path: Path, passage: str, keys: tuple[str, ...], expected: str) -> None:
    rows, _ = rows_of([("d", document(passage, *keys))], tmp_path)
    assert [row["text"] for row in rows] == [expected]


def test_neighbouring_citations_are_one_mark_and_a_sentence_is_counted_once(tmp_path: Path) -> None:
    passage = "Several papers say so [<>, <>; <>] in their words."
    rows, report = rows_of([("d", document(passage, VASWANI, BERT, "nowhere"))] * 2, tmp_path)
    assert {row["cited_id"] for row in rows} == {VASWANI, BERT}
    assert {row["text"] for row in rows} == {f"Several papers say so {CITE} in their words."}
    assert {row["group_size"] for row in rows} == {2}
    assert report.citations == {"contexts": 2}
    assert len(report.sample) == 4


def test_every_citation_is_counted_with_its_fate(tmp_path: Path) -> None:
    passages = [
        ("It is <> so.", VASWANI),
        ("This one has no entry <> in the bibliography at all.", "nowhere"),
        ("The reader gets every single word of it <> here.", VASWANI),
    ]
    _, report = rows_of([("d", document(*p)) for p in passages], tmp_path)
    assert report.citations == {
        "in a sentence too short or too long": 1,
        "without an entry in the bibliography": 1,
        "contexts": 1,
    }


# S2ORC and unarXive


def lines(path: Path, *records: Any) -> Path:
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in records))
    return path


def test_s2orc_of_the_datasets_api(tmp_path: Path) -> None:
    text = "A Title\nAttention is used by everyone [1] and memory too [2].\n"
    text += "[1] Vaswani. Attention Is All You Need.\n[2] X."
    one, two = text.index("[1]"), text.index("[2]")
    first, second = text.index("[1] V"), text.index("[2] X")
    notes = {
        "title": [{"start": 0, "end": 7}],
        "paragraph": [{"start": 8, "end": text.index("\n[1]")}],
        "bibref": [
            {"start": one, "end": one + 3, "attributes": {"ref_id": "b0"}},
            {"start": str(two), "end": str(two + 3), "attributes": {"ref_id": "b1"}},
        ],
        "bibentry": [
            {"start": first, "end": second, "attributes": {"id": "b0"}},
            {"start": second, "end": len(text), "attributes": {"id": "b1", "matched_paper_id": 8}},
        ],
        "bibtitle": [{"start": first + 13, "end": first + 38}],
    }
    record = {
        "corpusid": 99,
        "externalids": {"arxiv": None, "doi": "10.1000/citing"},
        "content": {"text": text, "annotations": {name: json.dumps(value) for name, value in notes.items()}},
    }
    rows, report = rows_of(parsed_documents(lines(tmp_path / "s2.jsonl", record)), tmp_path)
    sentence = "Attention is used by everyone {} and memory too {}."
    assert shown(rows) == {sentence.format(CITE, OTHER): [VASWANI], sentence.format(OTHER, CITE): ["s2:8"]}
    assert {(row["citing_id"], row["family"]) for row in rows} == {("doi:10.1000/citing", "s2orc")}
    assert report.references == {"by title": 1, "by identifier": 1}


def test_s2orc_of_2020(tmp_path: Path) -> None:
    text = "We fine-tune a large model (Devlin et al., 2019) for this."
    start = text.index("(")
    record = {
        "paper_id": "77490025",
        "_pdf_hash": "x",
        "abstract": [],
        "body_text": [
            {
                "section": "Intro",
                "text": text,
                "cite_spans": [
                    {
                        "start": start,
                        "end": text.index(")") + 1,
                        "text": "(Devlin et al., 2019)",
                        "ref_id": "BIBREF0",
                    },
                    {"start": 0, "end": 2, "text": "We", "ref_id": None},
                ],
                "ref_spans": [],
            }
        ],
        "bib_entries": {
            "BIBREF0": {
                "title": "BERT: Pre-training of deep bidirectional transformers",
                "authors": [{"first": "Jacob", "middle": [], "last": "Devlin", "suffix": ""}],
                "year": 2019,
                "venue": "NAACL",
                "link": "52967399",
            }
        },
        "ref_entries": {},
    }
    rows, _ = rows_of(parsed_documents(lines(tmp_path / "s2.jsonl", record)), tmp_path)
    assert [(r["text"], r["cited_id"], r["citing_id"]) for r in rows] == [
        (f"We fine-tune a large model {CITE} for this.", BERT, "s2:77490025")
    ]


def unarxive(number: str = "2105.05862") -> dict[str, Any]:
    text = (
        "We write {{formula:7fd88bcd-9013}} for the attention of {{cite:80dbb6c8b9c1}} in what follows. "
        "The optimizer is as before {{cite:bc9a8ca19785}}, see {{figure:11}} for all of it.\n"
    )
    return {
        "paper_id": number,
        "_pdf_hash": None,
        "_source_hash": "b7d5",
        "_source_name": f"{number}.gz",
        "metadata": {"id": number, "title": "Some title", "versions": []},
        "discipline": "Physics",
        "abstract": {"section": "Abstract", "text": "Text.", "cite_spans": [], "ref_spans": []},
        "body_text": [
            {"section": "S", "content_type": "paragraph", "text": text, "cite_spans": [], "ref_spans": []}
        ],
        "bib_entries": {
            "80dbb6c8b9c1": {
                "bib_entry_raw": "A. Vaswani et al., Attention is all you need, NeurIPS (2017).",
                "contained_arXiv_ids": [],
                "contained_links": [],
                "ids": {"open_alex_id": "https://openalex.org/W1", "doi": ""},
            },
            "bc9a8ca19785": {
                "bib_entry_raw": "D. Kingma, J. Ba",
                "contained_arXiv_ids": [{"id": "1412.6980", "text": "x", "start": 1, "end": 2}],
                "contained_links": [{"url": "https://arxiv.org/abs/1412.6980"}],
                "ids": {},
            },
        },
        "ref_entries": {"7fd88bcd-9013": {"latex": "S_{\\mu}", "type": "formula"}},
    }


def test_unarxive(tmp_path: Path) -> None:
    newer = unarxive("2412.00056")
    newer["sections"] = {"Introduction": newer.pop("body_text")[0]}
    rows, report = rows_of(parsed_documents(lines(tmp_path / "u.jsonl", unarxive(), newer)), tmp_path)
    assert shown(rows[:2]) == {
        f"We write $S_{{\\mu}}$ for the attention of {CITE} in what follows.": [VASWANI],
        f"The optimizer is as before {CITE}, see for all of it.": ["arxiv:1412.6980"],
    }
    assert [row["citing_id"] for row in rows] == ["arxiv:2105.05862"] * 2 + ["arxiv:2412.00056"] * 2
    assert [row["year"] for row in rows] == [2021, 2021, 2024, 2024]
    assert report.references["by a title in the reference's text"] == 2


def test_bad_lines_are_rejected_by_their_number(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "u.jsonl", {"paper_id": "x"}, unarxive(), [], unarxive() | {"bib_entries": {"a": 3}}
    )
    with path.open("ab") as file:
        file.write(b"{broken\n")
    rows, report = rows_of(parsed_documents(path), tmp_path)
    assert len(rows) == 2
    assert [reject.split(":")[0] for reject in report.rejects] == [f"u.jsonl line {n}" for n in (1, 3, 4, 5)]


# Splits


def row(citing: str, text: str = "", cited: str = "p", year: int | None = 2020) -> dict[str, Any]:
    return {"text": text or f"A sentence of {citing}.", "citing_id": citing, "cited_id": cited, "year": year}


@given(
    st.lists(
        st.builds(
            row, st.sampled_from([f"c{n}" for n in range(30)]), st.sampled_from(["", "same", "Same ", "x"])
        )
    )
)
def test_no_citing_paper_and_no_sentence_is_in_two_parts(rows: list[dict[str, Any]]) -> None:
    split = splits.by_paper(rows, 0.3, 0.3)
    assert sum(len(part) for part in split.parts.values()) == len(rows)
    for key in (lambda r: r["citing_id"], lambda r: r["text"].lower().strip()):
        sets = [{key(r) for r in part} for part in split.parts.values()]
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_shares_are_about_right_and_a_larger_file_splits_the_same_way() -> None:
    rows = [row(f"c{n}") for n in range(2000)]
    split = splits.by_paper(rows, 0.1, 0.2)
    assert 150 < len(split.parts["dev"]) < 250
    assert 340 < len(split.parts["test"]) < 460
    part = splits.by_paper(rows[:500], 0.1, 0.2)
    assert part.parts["test"] == split.parts["test"][: len(part.parts["test"])]
    assert splits.by_paper(rows, 0.1, 0.2, seed=1).parts != split.parts


def test_by_year_the_later_copy_of_a_sentence_is_left_out() -> None:
    rows = [
        row("old", year=2018),
        row("dev", year=2020),
        row("new", year=2022),
        row("copy", "A sentence of  OLD.", year=2022),
        row("timeless", year=None),
    ]
    split = splits.by_year(rows, 2020, 2021)
    assert {name: [r["citing_id"] for r in part] for name, part in split.parts.items()} == {
        "train": ["old"],
        "dev": ["dev"],
        "test": ["new"],
    }
    assert split.left_out == {"without a year": 1, "of papers that share a sentence with an earlier part": 1}


# The commands


def test_contexts_and_split_by_command(tmp_path: Path, invoke: Callable[..., Result]) -> None:
    corpus = write_corpus(
        tmp_path / "corpus.jsonl",
        [{"id": p.paper_id, "title": p.title, "authors": list(p.authors), "year": p.year} for p in PAPERS],
    )
    plant(tmp_path / "tex" / "2101.00001")
    lines(tmp_path / "u.jsonl", unarxive())
    out = tmp_path / "contexts.parquet"
    result = invoke("contexts", tmp_path / "tex", tmp_path / "u.jsonl", "--corpus", corpus, "--out", out)
    assert result.exit_code == 0, result.output
    assert "contexts      11 of 2 citing papers" in result.output
    report = json.loads((tmp_path / "contexts.report.json").read_text("utf-8"))
    assert report["contexts"] == len(report["sample"]) == 11
    assert "Attention Is All You Need" in (tmp_path / "contexts.report.txt").read_text("utf-8")
    queries, reading = read_queries(str(out))
    assert (reading.rejected, sum(len(query.cited_ids) for query in queries)) == (0, 11)

    result = invoke("split", out, "--out", tmp_path / "parts", "--dev", 0.5, "--test", 0.49, "--json")
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    parts = {name: pq.read_table(tmp_path / "parts" / f"{name}.parquet") for name in splits.PARTS}
    assert sum(part.num_rows for part in parts.values()) == 11
    assert {name: counts[name]["contexts"] for name in parts} == {n: p.num_rows for n, p in parts.items()}
    assert len({str(part.schema) for part in parts.values()}) == 1
    result = invoke(
        "split", out, "--out", tmp_path / "years", "--by", "year", "--dev-year", 2021, "--test-year", 2022
    )
    assert "dev    11 contexts of 2 citing papers" in result.output


def test_what_the_commands_cannot_do_is_one_line(tmp_path: Path, invoke: Callable[..., Result]) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", [{"id": "x", "title": "Nobody cites this"}])
    plant(tmp_path / "tex")
    for words, message in (
        (
            ("contexts", tmp_path / "no", "--corpus", corpus, "--out", tmp_path / "o.parquet"),
            "no such file or folder",
        ),
        (
            ("contexts", tmp_path / "tex", "--corpus", corpus, "--out", tmp_path / "o.txt"),
            "not a .parquet file",
        ),
        (
            ("contexts", tmp_path / "tex", "--corpus", corpus, "--out", tmp_path / "o.parquet"),
            "no context of a paper",
        ),
        (("split", tmp_path / "no.parquet", "--out", tmp_path / "p"), "indexer contexts SOURCE"),
        (("split", corpus, "--out", tmp_path / "p"), "line 1 has no text"),
    ):
        result = invoke(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
    assert invoke("split", corpus, "--out", tmp_path / "p", "--by", "year").exit_code == 2


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        splits.by_paper([row("a")], 0.5, 0.5)
    with pytest.raises(UserError, match="is after"):
        splits.by_year([row("a")], 2022, 2020)
