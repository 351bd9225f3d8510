"""Citing contexts from papers in full: who cites which paper of a corpus, in which words.

A document is a paper's passages with the places of its citations, and its references by key; data.latex_tree
and data.parsed_papers read them. Each reference is joined to a record of the corpus: by identifier, by
title, or by a title that stands in the text of the reference together with the first author's name.
"""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.clean import Rejected, text
from data.contexts import CITE, OTHER
from data.identifiers import acl_id, arxiv_id, arxiv_year, doi_in, paper_id
from data.names import NAME_SUFFIX
from data.paper import Paper

WINDOW = 50  # words on each side of the mark
SENTENCE_WORDS = range(5, 201)
SAMPLE = 50  # joins in the report
SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("context_id", "citing_id", "cited_id", "text", "window")]
    + [pa.field("group_size", pa.int32()), pa.field("year", pa.int32()), pa.field("family", pa.string())]
)
_MARK = range(0xE000, 0xF8FF)  # private characters, one a citation, while sentences are told apart
_MARKS = f"[{chr(_MARK[0])}-{chr(_MARK[-1])}]"
_SERIES = rf"{_MARKS}(?:[\s,;~]*{_MARKS})*"
_RUN = re.compile(rf"\[\s*{_SERIES}\s*\]|\(\s*{_SERIES}\s*\)|{_SERIES}")
_END = re.compile(rf"[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[]?(?:[A-Z0-9]|{_MARKS}))")
_SHORT = {
    *("e.g", "i.e", "etc", "cf", "vs", "al", "fig", "figs", "eq", "eqs", "sec", "tab", "ref", "refs", "resp"),
    *("no", "vol", "pp", "ch", "dr", "prof", "st", "approx", "w.r.t", "ca", "viz", "def", "thm", "prop"),
}
_WORD = re.compile(r"[a-z0-9]+")
_TITLE_WORDS = 4  # of a title that is looked for in a reference's text


@dataclass(frozen=True)
class Reference:
    """An entry of a bibliography, as far as it is known; `ids` are ids that the paper may have here."""

    text: str = ""
    title: str = ""
    ids: tuple[str, ...] = ()


class Citation(NamedTuple):
    """One place of a passage where something is cited: characters start to end, and the keys."""

    start: int
    end: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    """A citing paper."""

    name: str
    citing_id: str
    title: str
    year: int | None
    family: str
    passages: tuple[tuple[str, tuple[Citation, ...]], ...]
    references: dict[str, Reference]


@dataclass
class Report:
    """What became of documents, references and citations, with a sample of the joins to read."""

    documents: int = 0
    rejected: int = 0
    rejects: list[str] = field(default_factory=list)
    references: Counter[str] = field(default_factory=Counter)
    citations: Counter[str] = field(default_factory=Counter)
    contexts: int = 0
    citing_papers: int = 0
    cited_papers: int = 0
    sample: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"references": dict(self.references), "citations": dict(self.citations)}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"documents     {self.documents:,} read, {self.rejected:,} rejected"
        joined = sum(n for how, n in self.references.items() if how != "not in the corpus")
        total = sum(self.references.values())
        yield f"references    {total:,}, {joined:,} joined to the corpus ({joined / max(total, 1):.1%})"
        for how, count in self.references.most_common():
            yield f"              {count:,} {how}"
        for fate, count in self.citations.most_common():
            yield f"citations     {count:,} {fate}"
        yield (
            f"contexts      {self.contexts:,} of {self.citing_papers:,} citing papers, "
            f"{self.cited_papers:,} cited papers"
        )
        yield f"\nA sample of {len(self.sample)} joins, to be read by eye:"
        for join in self.sample:
            yield f"\n{join['how']}\n  reference  {join['reference']}"
            yield f"  paper      {join['cited_id']}  {join['title']}"
            yield f"  context    {join['context']}"


class Catalogue:
    """The papers of a corpus, to find the one that a reference means."""

    def __init__(self, papers: Iterable[Paper]) -> None:
        self._papers: list[tuple[str, str, str, int | None]] = []
        self._ids: dict[str, int] = {}
        self._titles: dict[str, int] = {}
        self._starts: dict[str, list[int]] = {}
        for paper in papers:
            self._add(paper)

    def _add(self, paper: Paper) -> None:
        row = len(self._papers)
        self._papers.append((paper.paper_id, paper.title, family(paper.authors), paper.year))
        for known in (paper.paper_id, f"doi:{paper.valid_doi}" if paper.valid_doi else ""):
            if known:
                self._ids.setdefault(known.lower(), row)
        words = _words(paper.title)
        if words:
            title = " ".join(words)
            # Two papers of one title: neither is meant for sure.
            self._titles[title] = -1 if title in self._titles else row
        if len(words) >= _TITLE_WORDS:
            self._starts.setdefault(" ".join(words[:_TITLE_WORDS]), []).append(row)

    def find(self, reference: Reference) -> tuple[int, str] | None:
        """The row of the paper that is meant, and how that was found out."""
        for known in reference.ids:
            row = self._ids.get(known.lower())
            if row is not None:
                return row, "by DOI" if known.startswith("doi:") else "by identifier"
        words = _words(reference.text)
        row = self._titles.get(" ".join(_words(reference.title)), -1) if reference.title else -1
        if row >= 0 and self._written_by(row, words):
            return row, "by title"
        row = self._within(words)
        return None if row is None else (row, "by a title in the reference's text")

    def _within(self, words: list[str]) -> int | None:
        best: tuple[int, int] | None = None
        for place in range(len(words) - _TITLE_WORDS + 1):
            for row in self._starts.get(" ".join(words[place : place + _TITLE_WORDS]), ()):
                title = _words(self._papers[row][1])
                if words[place : place + len(title)] == title and self._certain(row, title, words):
                    best = max(best or (0, 0), (len(title), row))
        if best is None or self._titles[" ".join(_words(self._papers[best[1]][1]))] < 0:
            return None
        return best[1]

    def _certain(self, row: int, title: list[str], words: list[str]) -> bool:
        return self._written_by(row, words) and (bool(self._papers[row][2]) or len(title) >= 2 * _TITLE_WORDS)

    def _written_by(self, row: int, words: list[str]) -> bool:
        """Whether the reference names the first author; one that is not known speaks against no reference."""
        name = _words(self._papers[row][2])
        return not name or not words or name[-1] in words

    def by_title(self, title: str) -> str:
        """The id of the one paper with this title, or nothing."""
        row = self._titles.get(" ".join(_words(title)), -1)
        return self._papers[row][0] if row >= 0 else ""

    def __getitem__(self, row: int) -> tuple[str, str, str, int | None]:
        """Id, title, first author's family name and year."""
        return self._papers[row]

    def year(self, known: str) -> int | None:
        """The year of a paper of the corpus."""
        row = self._ids.get(known.lower())
        return None if row is None else self._papers[row][3]


def family(authors: Iterable[str]) -> str:
    """The family name of the first author."""
    words = next(iter(authors), "").split()
    return next((word for word in reversed(words) if not NAME_SUFFIX.fullmatch(word)), "")


def _words(value: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
    return _WORD.findall(plain)


def reference_of(raw: str, title: str = "", ids: Iterable[str] = (), doi: str = "") -> Reference:
    """A reference with the identifiers that its text holds."""
    number = arxiv_id(raw) if "arxiv" in raw.lower() else ""
    found_doi = (doi or doi_in(raw)).rstrip(".,;)}")
    address = re.search(r"aclanthology\.org/[\w.-]+|aclweb\.org/anthology/[\w./-]+", raw)
    acl = acl_id(address[0].rstrip("./")) if address else ""
    known = [*ids, f"arxiv:{number}" if number else "", f"acl:{acl}" if acl else "", paper_id(doi=found_doi)]
    return Reference(raw, title, tuple(dict.fromkeys(i for i in known if i)))


def extract(
    documents: Iterable[tuple[str, Document | Rejected]], catalogue: Catalogue, out: Path, seed: int = 0
) -> Report:
    """Write the contexts of all documents to a Parquet file; what was joined is in the report.

    A context's text is its sentence with [CITE] in the place of the whole citation and [OTHER] in that
    of others; `window` has up to 50 words on each side. Several papers cited at one place are as many rows.
    """
    report = Report()
    draw = random.Random(seed)
    citing, cited = set(), set()
    half = out.with_name(out.name + ".half")
    out.parent.mkdir(parents=True, exist_ok=True)
    joins = 0
    with pq.ParquetWriter(half, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        pending: list[dict[str, Any]] = []
        for place, document in documents:
            if isinstance(document, Rejected):
                report.rejected += 1
                report.rejects.append(f"{place}: {document}")
                continue
            report.documents += 1
            for row, how, reference in _contexts(document, catalogue, report):
                row["context_id"] = f"c{report.contexts}"
                report.contexts += 1
                citing.add(row["citing_id"])
                cited.add(row["cited_id"])
                pending.append(row)
                joins += 1
                _draw(report.sample, draw, joins, row, how, reference, catalogue)
            if len(pending) >= 1000:
                writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
                pending.clear()
        writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
    half.replace(out)
    report.citing_papers, report.cited_papers = len(citing), len(cited)
    return report


def _draw(
    sample: list[dict[str, str]],
    draw: random.Random,
    number: int,
    row: dict[str, Any],
    how: str,
    reference: Reference,
    catalogue: Catalogue,
) -> None:
    """Keep SAMPLE joins of all, each with the same chance."""
    slot = len(sample) if len(sample) < SAMPLE else draw.randrange(number)
    if slot >= SAMPLE:
        return
    found = catalogue.find(reference)
    join = {
        "how": how,
        "reference": " ".join((reference.text or reference.title).split())[:300],
        "cited_id": row["cited_id"],
        "title": catalogue[found[0]][1] if found else "",
        "context": row["text"],
    }
    sample[slot : slot + 1] = [join]


def _contexts(
    document: Document, catalogue: Catalogue, report: Report
) -> Iterator[tuple[dict[str, Any], str, Reference]]:
    joined = {key: catalogue.find(reference) for key, reference in document.references.items()}
    for join in joined.values():
        report.references["not in the corpus" if join is None else join[1]] += 1
    citing_id = document.citing_id or catalogue.by_title(document.title) or f"document:{document.name}"
    year = document.year or arxiv_year(citing_id) or catalogue.year(citing_id)
    base = {"citing_id": citing_id, "year": year, "family": document.family}
    seen: set[tuple[str, str]] = set()
    for passage, citations in document.passages:
        for context in _marked(passage, citations):
            keys = [key for key in dict.fromkeys(context.keys) if joined.get(key)]
            # The paper itself, in another version, is no paper to find.
            rows = {
                join[0]: key for key in keys if (join := joined[key]) and catalogue[join[0]][0] != citing_id
            }
            fate = _fate(context, rows, document)
            report.citations[fate] += 1
            if fate != "contexts":
                continue
            names = [catalogue[row][2] for row in rows]
            shown, window = _without_names(context.text, names), _without_names(context.window, names)
            for row, key in rows.items():
                cited_id = catalogue[row][0]
                if (shown, cited_id) not in seen:
                    seen.add((shown, cited_id))
                    found = {"cited_id": cited_id, "text": shown, "window": window, "group_size": len(rows)}
                    how = joined[key]
                    yield base | found, how[1] if how else "", document.references[key]


class _Marked(NamedTuple):
    text: str
    window: str
    keys: tuple[str, ...]


def _fate(context: _Marked, rows: dict[int, str], document: Document) -> str:
    if not any(key in document.references for key in context.keys):
        return "without an entry in the bibliography"
    if not rows:
        return "of papers that are not in the corpus"
    words = len(context.text.replace(CITE, "").replace(OTHER, "").split())
    return "contexts" if words in SENTENCE_WORDS else "in a sentence too short or too long"


def _marked(passage: str, citations: tuple[Citation, ...]) -> Iterator[_Marked]:
    """The sentence and the window of every citation of a passage; neighbouring citations are one."""
    groups: list[tuple[str, ...]] = []
    parts, end = [], 0
    for citation in sorted(citations)[: len(_MARK)]:
        if citation.start < end:
            continue
        parts += [passage[end : citation.start], chr(_MARK[len(groups)])]
        groups.append(citation.keys)
        end = citation.end
    try:
        whole = text("".join([*parts, passage[end:]]))
    except Rejected:  # over the length of any field
        return
    runs = list(_RUN.finditer(whole))
    for sentence in _sentences(whole):
        for run in runs:
            if sentence.start <= run.start() < sentence.stop:
                keys = tuple(key for c in run[0] if ord(c) in _MARK for key in groups[ord(c) - _MARK[0]])
                inside = _shown(whole[sentence.start : run.start()], run, whole[run.end() : sentence.stop])
                before = whole[: run.start()].split()[-WINDOW:]
                after = whole[run.end() :].split()[:WINDOW]
                yield _Marked(inside, _shown(" ".join(before) + " ", run, " " + " ".join(after)), keys)


def _shown(before: str, run: re.Match[str], after: str) -> str:
    """The text around a citation with its marks written out, spaced as people write."""
    space = "" if not before or before[-1].isspace() else " "
    gap = " " if re.match(r"\w", after) else ""
    line = f"{_RUN.sub(f' {OTHER} ', before)}{space}{CITE}{gap}{_RUN.sub(f' {OTHER} ', after)}"
    return re.sub(r"\s+([.,;:!?)])", r"\1", " ".join(line.split()))


def _without_names(line: str, names: Iterable[str]) -> str:
    """The text without the cited authors' names before the mark: `Ho et al. [CITE]` gives the paper away."""
    for name in names:
        if name:
            author = rf"\b{re.escape(name)}(?:,? et al\.?|,? (?:and|&) [\w-]+)?,?\s*(?=\{CITE[:-1]}\])"
            line = re.sub(author, "", line)
    return line


def _sentences(whole: str) -> Iterator[range]:
    start = 0
    for end in _END.finditer(whole):
        word = re.split(r"[\s(\[]", whole[start : end.start()])[-1].lower()
        if word in _SHORT or (len(word) == 1 and word.isalpha()):
            continue
        yield range(start, end.end())
        start = end.end()
    yield range(start, len(whole))
