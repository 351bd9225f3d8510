"""Records of Semantic Scholar as records for data.clean.to_paper.

Known are the data sets `papers`, `abstracts` and `s2orc` of its Datasets API, the answers of its
Graph API, and S2ORC's metadata of 2020. The data set `papers` has no abstracts: they are a data set
of their own, which `with_abstracts` joins.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.identifiers import paper_id

FIELDS = (
    *("externalids", "externalIds", "s2fieldsofstudy", "s2FieldsOfStudy", "fieldsOfStudy"),
    *("mag_field_of_study", "paperAbstract", "acl_id", "content"),
)


def paper_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of any of the forms; its id is arXiv's, the ACL's or the DOI where it has one."""
    ids = _mapping(record.get("externalids") or record.get("externalIds"))
    number = corpus_id(record) or ids.get("CorpusId")
    doi = ids.get("DOI") or ids.get("doi") or record.get("doi")
    return {
        "paper_id": paper_id(
            arxiv=ids.get("ArXiv") or ids.get("arxiv") or record.get("arxiv_id"),
            acl=ids.get("ACL") or ids.get("acl") or record.get("acl_id"),
            doi=doi,
            other=f"s2:{number}" if number else "",
        ),
        "title": record.get("title") or _annotated(record, "title"),
        "abstract": record.get("abstract") or record.get("paperAbstract") or _annotated(record, "abstract"),
        "authors": _authors(record.get("authors")),
        "year": record.get("year") or record.get("publicationdate") or record.get("publicationDate"),
        "categories": _fields(record),
        "venue": record.get("venue") or _mapping(record.get("journal")).get("name"),
        "doi": doi,
    }


def corpus_id(record: Mapping[str, Any]) -> Any:
    """Semantic Scholar's own number of a paper, by whichever name the form has it."""
    names = ("corpusid", "corpusId", "corpus_id", "paper_id", "paperId", "id")
    return next((record[name] for name in names if record.get(name)), None)


def annotations(record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The annotations of one kind over S2ORC's text: mappings with start and end, perhaps attributes."""
    value = _mapping(_mapping(record.get("content")).get("annotations")).get(name)
    if isinstance(value, str):  # a JSON text in the JSON record
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    return [a for a in value if isinstance(a, dict)] if isinstance(value, list) else []


def span(record: Mapping[str, Any], annotation: Mapping[str, Any]) -> str:
    """The text that an annotation of S2ORC is of."""
    text = _mapping(record.get("content")).get("text")
    try:
        return str(text[int(annotation["start"]) : int(annotation["end"])]) if isinstance(text, str) else ""
    except (KeyError, TypeError, ValueError):
        return ""


def _annotated(record: Mapping[str, Any], name: str) -> str:
    return " ".join(span(record, annotation) for annotation in annotations(record, name))


def _authors(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [_name(author) if isinstance(author, Mapping) else author for author in value]


def _name(author: Mapping[str, Any]) -> Any:
    if author.get("name"):
        return author["name"]
    middle = author.get("middle")
    parts = [author.get("first"), *(middle if isinstance(middle, list) else [middle]), author.get("last")]
    return " ".join(str(part) for part in [*parts, author.get("suffix")] if part)


def _fields(record: Mapping[str, Any]) -> list[str]:
    lists = (
        record.get(n) for n in ("s2fieldsofstudy", "s2FieldsOfStudy", "fieldsOfStudy", "mag_field_of_study")
    )
    values = next((value for value in lists if isinstance(value, list) and value), [])
    names = [_mapping(v).get("category") if isinstance(v, Mapping) else v for v in values]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def with_abstracts(
    papers: Iterable[tuple[str, Any]], abstracts: Iterable[tuple[str, Any]], folder: Path
) -> Iterator[tuple[str, Any]]:
    """Records of the data set `papers` with the abstracts of the data set `abstracts`.

    The abstracts wait in a database in `folder`, since memory does not hold those of 100 million papers.
    """
    database = sqlite3.connect(folder / "abstracts.sqlite")
    try:
        database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE abstracts (id INTEGER PRIMARY KEY, text TEXT)"
        )
        rows = ((r["corpusid"], r["abstract"]) for _, r in abstracts if _is_abstract(r))
        database.executemany("INSERT OR REPLACE INTO abstracts VALUES (?, ?)", rows)
        for place, record in papers:
            if isinstance(record, dict) and isinstance(record.get("corpusid"), int):
                row = database.execute(
                    "SELECT text FROM abstracts WHERE id = ?", (record["corpusid"],)
                ).fetchone()
                record["abstract"] = row[0] if row else record.get("abstract")
            yield place, record
    finally:
        database.close()


def _is_abstract(record: Any) -> bool:
    """Whether SQLite takes the record: a number of 63 bits, and text that has a form in UTF-8."""
    if not isinstance(record, dict) or not isinstance(record.get("abstract"), str):
        return False
    number = record.get("corpusid")
    return isinstance(number, int) and abs(number) < 1 << 63 and "\ud800" not in ascii(record["abstract"])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
