"""Papers in full as S2ORC and unarXive publish them, as JSON lines, to documents."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.citing import Citation, Document, Reference, reference_of
from data.clean import Rejected
from data.formats import records
from data.identifiers import arxiv_id, arxiv_year, paper_id
from data.semantic_scholar import annotations, corpus_id, paper_record, span

_FIELDS = (
    *(
        "title",
        "paper_id",
        "corpusid",
        "externalids",
        "content",
        "metadata",
        "body_text",
        "bib_entries",
        "ref_entries",
    ),
    *("abstract", "pdf_parse", "latex_parse", "sections", "year", "authors"),
)
_TOKEN = re.compile(r"\{\{(?P<kind>[a-z]+):(?P<key>[0-9a-zA-Z-]+)\}\}")


def parsed_documents(path: Path) -> Iterator[tuple[str, Document | Rejected]]:
    """The papers of a file, as (place, document) pairs; raises UserError where it cannot be read."""
    for place, record in records(path, _FIELDS):
        try:
            if isinstance(record, Rejected):
                raise record
            if not isinstance(record, Mapping):
                raise Rejected(f"not a record but {type(record).__name__}")
            yield f"{path.name} {place}", _document(record)
        except Rejected as error:
            yield f"{path.name} {place}", error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            yield f"{path.name} {place}", Rejected(f"neither S2ORC nor unarXive ({type(error).__name__})")


def _document(record: Mapping[str, Any]) -> Document:
    if isinstance(record.get("content"), Mapping):
        return _s2orc(record)
    parse = record.get("pdf_parse") or record.get("latex_parse") or record
    paragraphs = [*_list(parse.get("abstract")), *_list(parse.get("body_text")), *_sections(parse)]
    if not paragraphs or not isinstance(parse.get("bib_entries"), Mapping):
        raise Rejected("no body_text or no bib_entries")
    meta = _mapping(record.get("metadata"))
    name = str(record.get("paper_id") or "")
    unarxive = "_source_name" in record or any("bib_entry_raw" in e for e in parse["bib_entries"].values())
    number = arxiv_id(name) if unarxive or "arxiv" in name.lower() else ""
    formulas = parse.get("ref_entries") or {}
    return Document(
        name=name,
        citing_id=f"arxiv:{number}" if number else f"s2:{name}" if name.isdecimal() else "",
        title=str(meta.get("title") or record.get("title") or ""),
        year=arxiv_year(number) if number else _year(meta.get("year") or record.get("year")),
        family="unarxive" if unarxive else "s2orc",
        passages=tuple(_passage(paragraph, formulas) for paragraph in paragraphs),
        references={key: _reference(entry) for key, entry in parse["bib_entries"].items()},
    )


def _sections(parse: Mapping[str, Any]) -> list[Any]:
    """unarXive of 2024 has its paragraphs under the names of their sections."""
    sections = parse.get("sections")
    return list(sections.values()) if isinstance(sections, Mapping) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _year(value: Any) -> int | None:
    return int(value) if str(value).isdecimal() else None


def _passage(paragraph: Mapping[str, Any], formulas: Mapping[str, Any]) -> tuple[str, tuple[Citation, ...]]:
    text = str(paragraph.get("text") or "")
    if "{{" in text:
        return _tokens(text, formulas)
    spans = [s for s in _list(paragraph.get("cite_spans")) if s.get("ref_id")]
    return text, tuple(Citation(int(s["start"]), int(s["end"]), (str(s["ref_id"]),)) for s in spans)


def _tokens(text: str, formulas: Mapping[str, Any]) -> tuple[str, tuple[Citation, ...]]:
    """unarXive's text, in which {{cite:…}} and {{formula:…}} stand for what they name."""
    parts: list[str] = []
    citations: list[Citation] = []
    length = end = 0
    for match in _TOKEN.finditer(text):
        entry = formulas.get(match["key"])
        latex = entry.get("latex") if isinstance(entry, Mapping) and match["kind"] == "formula" else ""
        shown = f"${latex}$" if latex else " "
        before = text[end : match.start()]
        length += len(before)
        if match["kind"] == "cite":
            citations.append(Citation(length, length + 1, (match["key"],)))
        parts += [before, shown]
        length += len(shown)
        end = match.end()
    return "".join([*parts, text[end:]]), tuple(citations)


def _reference(entry: Mapping[str, Any]) -> Reference:
    """An entry of unarXive, which has the text and what it was linked to, or of S2ORC, which has fields."""
    known = _mapping(entry.get("ids"))
    numbers = [arxiv_id(str(link.get("id"))) for link in _list(entry.get("contained_arXiv_ids"))]
    open_alex = str(known.get("open_alex_id") or "").rpartition("/")[2]
    link = entry.get("link")
    ids = [f"arxiv:{number}" for number in [*numbers, arxiv_id(str(known.get("arxiv_id") or ""))] if number]
    ids += [f"openalex:{open_alex}"] if open_alex else []
    ids += [f"s2:{link}"] if link else []
    links = " ".join(str(address.get("url")) for address in _list(entry.get("contained_links")))
    doi = str(known.get("doi") or "") or _doi(entry.get("other_ids"))
    authors = " ".join(
        f"{a.get('first') or ''} {a.get('last') or ''}" if isinstance(a, Mapping) else str(a)
        for a in entry.get("authors") or ()
    )
    title = str(entry.get("title") or "")
    raw = str(entry.get("bib_entry_raw") or entry.get("raw_text") or f"{authors} {title}")
    return reference_of(f"{raw} {links}".strip(), title, ids, doi)


def _doi(value: Any) -> str:
    dois = value.get("DOI") if isinstance(value, Mapping) else None
    return str(dois[0]) if isinstance(dois, list) and dois else ""


def _s2orc(record: Mapping[str, Any]) -> Document:
    """S2ORC of the Datasets API: one text, and annotations over it."""
    plain = paper_record(record)
    bibref = [
        (int(a["start"]), int(a["end"]), a.get("attributes") or {}) for a in annotations(record, "bibref")
    ]
    titles = [(int(a["start"]), int(a["end"])) for a in annotations(record, "bibtitle")]
    references = {}
    for entry in annotations(record, "bibentry"):
        attributes = entry.get("attributes") or {}
        start, end = int(entry["start"]), int(entry["end"])
        title = next((s for s in titles if start <= s[0] and s[1] <= end), None)
        matched = attributes.get("matched_paper_id")
        references[str(attributes.get("id"))] = reference_of(
            span(record, entry),
            span(record, {"start": title[0], "end": title[1]}) if title else "",
            [f"s2:{matched}"] if matched else [],
            str(attributes.get("doi") or ""),
        )
    passages = []
    for paragraph in annotations(record, "paragraph"):
        start, end = int(paragraph["start"]), int(paragraph["end"])
        inside = [
            Citation(s - start, e - start, (str(attributes["ref_id"]),))
            for s, e, attributes in bibref
            if start <= s < e <= end and attributes.get("ref_id")
        ]
        passages.append((span(record, paragraph), tuple(inside)))
    number = corpus_id(record)
    return Document(
        name=str(number),
        citing_id=str(plain["paper_id"]) or paper_id(other=f"s2:{number}"),
        title=str(plain["title"] or ""),
        year=_year(plain["year"]),
        family="s2orc",
        passages=tuple(passages),
        references=references,
    )
