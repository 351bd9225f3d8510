"""Promise: every parser takes any bytes: it reads, rejects with a reason, or says one line.

What the tests of each reader do not cover already, by hypothesis: whole files, good ones with pieces cut,
doubled and overwritten, and bytes that were never a file of that kind.
"""

import gzip
import io
import json
from collections.abc import Callable
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data.bibliography import bibtex_records
from data.clean import Rejected, to_paper
from data.contexts import parse, read_queries
from data.corpus import Reading, read
from data.errors import UserError
from data.library import read_bibliography
from data.manuscript import read_draft
from indexer.store import Manifest

Settings = Callable[[Any], Any]
SIZES = [25, pytest.param(2000, marks=pytest.mark.faults)]


def tries(count: int) -> Settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


ARXIV = {
    "id": "1706.03762", "submitter": "A", "authors": "A. Vaswani, N. Shazeer", "title": "Attention Is\n  All",
    "journal-ref": None, "doi": "10.1/x", "categories": "cs.CL cs.LG", "abstract": "  The $x^2$ models.\n",
    "versions": [{"version": "v1", "created": "Mon, 12 Jun 2017 17:57:34 GMT"}], "update_date": "2023-08-03",
    "authors_parsed": [["Vaswani", "Ashish", ""], ["Shazeer", "Noam", "", "Google"]],
}  # fmt: skip
LINES = b"".join(json.dumps(ARXIV | {"id": f"1706.0{n}"}).encode() + b"\n" for n in range(3762, 3766))
CSV = b'id,title,abstract,authors,year\na,"One, ""two""",x,"Ada B; Carl D",2012\nb,Zwei,,,\n"c\nd",Drei,y,z\n'
BIB = rb"""@string{n = "NIPS"}
@article{a, title = {Schr{\"o}dinger's {BERT} \& $x^{2}$}, author = {Knuth, D. and King, Jr., M.},
  journal = n}
@misc{b, title = "Quoted {T}itle", eprint = {1706.03762v5}, archivePrefix = {arXiv}, year = 2019}
"""
TEX = rb"""\documentclass{article} \title{A \textbf{title}} \newcommand{\todocite}{[CITE]}
\begin{document} \begin{abstract}We cite.\end{abstract}
\input{other} Residual \cite{} networks~\cite{he2016deep, x} work [CITE]. % \cite{no}
\verb|\cite{}| \begin{verbatim}[CITE]\end{verbatim} $x$ \todo{cite} Text \citep[see][p.~3]{}.
\bibliography{refs}
\end{document}"""
MARKDOWN = b"""---
title: A title
abstract: |
  Text
---
# Head
Text [CITE] and [@key; @other]. `[CITE]`

```
[CITE]
```
"""
ROW = {"text": "Nets [CITE] work [OTHER].", "cited_id": "a", "citing_id": "b"}
CONTEXTS = b"".join(json.dumps(ROW | {"cited_id": name}).encode() + b"\n" for name in "abc")
XML = b"<collection><volume><paper id='1'><title>T <b>x</b></title></paper></volume></collection>"


def parquet(compression: str = "snappy", title: str = "title") -> bytes:
    file = io.BytesIO()
    rows = {"id": ["a", "b"], title: ["One", "Two"], "authors": [["A B"], []], "year": [2012, None]}
    pq.write_table(pa.table(rows), file, compression=compression)
    return file.getvalue()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good file in which pieces were cut out, doubled, moved and overwritten; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(raw)))
        stop = min(len(raw), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("cut", "double", "write", "flip", "end")))
        if kind == "cut":
            del raw[start:stop]
        elif kind == "double":
            raw[start:start] = raw[start:stop] * draw(st.integers(1, 3))
        elif kind == "write":
            raw[start:stop] = draw(st.binary(max_size=12) | st.sampled_from(TOKENS))
        elif kind == "flip" and start < len(raw):
            raw[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "end":
            del raw[draw(st.integers(0, len(raw))) :]
    return bytes(raw)


TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b",", b"%", b"$", b"@", b"#", b"=", b"null", b"NaN", b"1e999", b"[[[[[[[[",
    b'{"a":' * 50, b"[CITE]", b"\\cite{", b"\\begin{", b"\\end{document}", b"\\input{/etc/passwd}",
    b"\\def\\x{\\x}\\x", b"@article{", b"-----", b"'''", b"9" * 5000,
)  # fmt: skip


# What it found once: column names with line ends and of a whole line, a mark's look-alike beside a mark.
FOUND = {
    "table.csv": [b'",2012\nb,Zwei,,,\n"c\nd",Drei,y,z\n', b"9" * 5000 + CSV],
    "table.tsv": [b'"\t2012\nb\tZwei\t\t\t\n"c\nd"\tDrei\ty\tz\n'],
    "table.parquet": [parquet(title="9" * 5000 + "\n")],
    "page.xml": [b"<" + b"x" * 5000 + b"/>"],
    "contexts.csv": [b"9" * 5000 + b'text,cited_id\n"a [CITE], b",x\n'],
    "draft.md": [
        MARKDOWN.replace(b"[CITE] and", b"[CITE](and", 1),
        *(MARKDOWN.replace(b"A title", value) for value in (b"2026-13-45", b"9" * 5000, b"!!bool x")),
    ],
}


def found(name: str) -> Settings:
    """The cases that failed once, tried first."""

    def with_examples(test: Any) -> Any:
        return reduce(lambda made, raw: example(raw)(made), FOUND.get(name, ()), test)

    return with_examples


def said(error: UserError) -> None:
    """One line for the user."""
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    assert 10 < len(str(error)) < 1000


CORPORA = {
    "arxiv.json": LINES,
    "lines.jsonl": LINES,
    "lines.jsonl.gz": gzip.compress(LINES, mtime=0),
    "lines.jsonl.zst": zstandard.compress(LINES),
    "list.json": b"[" + LINES.replace(b"\n", b",").rstrip(b",") + b"]",
    "table.csv": CSV,
    "table.tsv": CSV.replace(b",", b"\t"),
    "table.parquet": parquet(),
    "table2.parquet": parquet("zstd"),
    "refs.bib": BIB,
    "page.xml": XML,
}


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", CORPORA)
def test_any_corpus_is_read_rejected_or_refused(name: str, count: int, tmp_path: Path) -> None:
    @tries(count)
    @found(name)
    @given(damaged(CORPORA[name]))
    def check(raw: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(raw)
        reading = Reading()
        try:
            papers = list(read(str(path), reading))
        except UserError as error:
            said(error)
        else:
            assert len(papers) + reading.rejected == reading.read
            assert all(paper.title for paper in papers)

    check()


@pytest.mark.parametrize("count", SIZES)
def test_any_bibtex_is_records_or_reasons(count: int) -> None:
    @tries(count)
    @given(damaged(BIB).map(lambda raw: raw.decode("utf-8", "replace")) | st.text(max_size=200))
    def check(source: str) -> None:
        for place, record in bibtex_records(source):
            assert place.startswith("line ")
            if isinstance(record, Rejected):
                assert len(str(record).splitlines()) == 1
                continue
            with suppress(Rejected):
                to_paper(record)

    check()


DRAFTS = {"draft.tex": TEX, "draft.md": MARKDOWN}


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", DRAFTS)
def test_any_draft_is_marks_or_one_line(name: str, count: int, tmp_path: Path) -> None:
    @tries(count)
    @found(name)
    @given(damaged(DRAFTS[name]))
    def check(raw: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(raw)
        try:
            draft = read_draft(path)
        except UserError as error:
            said(error)
            return
        for mark in draft.marks:
            assert mark.context.text.count("[CITE]") <= 1
        assert path.read_bytes() == raw

    check()


@pytest.mark.parametrize("count", SIZES)
def test_any_library_of_a_draft_is_entries_or_one_line(count: int, tmp_path: Path) -> None:
    @tries(count)
    @given(damaged(BIB))
    def check(raw: bytes) -> None:
        path = tmp_path / "refs.bib"
        path.write_bytes(raw)
        try:
            library = read_bibliography(path)
        except UserError as error:
            said(error)
            return
        assert all(entry.key in library.keys for entry in library.entries)

    check()


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", ["contexts.jsonl", "contexts.csv"])
def test_any_contexts_are_queries_or_one_line(name: str, count: int, tmp_path: Path) -> None:
    whole = CONTEXTS if name.endswith("jsonl") else b'text,cited_id\n"a [CITE], b",x\nc [CITE],y\n'

    @tries(count)
    @found(name)
    @given(damaged(whole))
    def check(raw: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(raw)
        try:
            queries, reading = read_queries(str(path))
        except UserError as error:
            said(error)
            return
        assert queries
        assert reading.accepted + reading.rejected + reading.duplicates == reading.read

    check()


@pytest.mark.parametrize("count", SIZES)
def test_any_query_is_contexts_or_one_line(count: int) -> None:
    @tries(count)
    @given(
        st.text() | st.lists(st.sampled_from(("[CITE]", "[OTHER]", ". ", "A", " ", "\ud800"))).map("".join)
    )
    def check(text: str) -> None:
        try:
            contexts = parse(text)
        except UserError as error:
            said(error)
            return
        assert all(context.text.count("[CITE]") <= 1 for context in contexts)

    check()


@pytest.mark.parametrize("count", SIZES)
def test_any_manifest_is_whole_or_one_line(count: int, small_index: Path) -> None:
    (path,) = small_index.rglob("manifest.json")
    whole = path.read_bytes()

    @tries(count)
    @given(damaged(whole))
    def check(raw: bytes) -> None:
        try:
            manifest = Manifest.from_bytes(raw, path)
        except UserError as error:
            said(error)
        else:
            assert manifest.to_bytes() == raw

    check()
