"""Citing contexts: a text with `[CITE]` where the citation belongs, and the papers it cites."""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.clean import Rejected, text, year_in
from data.corpus import Reading
from data.errors import UserError
from data.formats import Record, records

CITE = "[CITE]"
OTHER = "[OTHER]"
MAX_QUERY = 20_000  # characters: a long section; what is longer is a whole draft or a mistake
MAX_MARKS = 100  # of one text: every mark is a search of its own
_COLUMNS = ("text", "cited_id", "citing_id", "year", "family")
_BEIR_ID = "BEIR query id"  # no column of a contexts file
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\[\"'(])")


def unmarked(text: str) -> str:
    """A text without its marks, as its words are compared."""
    return text.replace(CITE, " ").replace(OTHER, " ")


@dataclass(frozen=True, slots=True)
class Context:
    """Text around one mark: at most one CITE, every other citation an OTHER."""

    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """An evaluation query: one citing text and every paper that it cites at its mark.

    `year` is the citing paper's, `family` names the kind of source that the context comes from.
    """

    query_id: str
    context: Context
    citing_id: str
    cited_ids: tuple[str, ...]
    year: int | None = None
    family: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """One known citation: a text with a mark, the paper that it is from and the paper that it cites there."""

    cited_id: str
    citing_id: str
    text: str
    year: int | None = None


def drawn(queries: Sequence[Query], count: int | None) -> Sequence[Query]:
    """So many of the queries, or all, in their order: always the same ones, and part of a larger sample."""
    if count is None or count >= len(queries):
        return queries
    order = list(range(len(queries)))
    random.Random(0).shuffle(order)
    return [queries[place] for place in sorted(order[:count])]


def citations(queries: Iterable[Query]) -> list[Citation]:
    """The citations that queries are made of."""
    return [Citation(cited, q.citing_id, q.context.text, q.year) for q in queries for cited in q.cited_ids]


def parse(source: str) -> list[Context]:
    """The contexts of what a user typed: one for each `[CITE]`, or the whole text if it has none.

    A text with one mark is its context; of a text with several, each mark's context is its sentence
    and the one before. Raises UserError for an empty text, one over MAX_QUERY characters and one with
    more than MAX_MARKS marks.
    """
    if len(source) > MAX_QUERY:
        raise UserError(
            f"the text has {len(source):,} characters, the limit is {MAX_QUERY:,}; search a part of it"
        )
    source = text(source)
    if not re.search(r"\w", source.replace(CITE, "").replace(OTHER, "")):
        raise UserError("the text is empty: type a sentence with [CITE] where the citation belongs")
    marks = source.count(CITE)
    if marks <= 1:
        return [Context(source)]
    if marks > MAX_MARKS:
        raise UserError(f"the text has {marks:,} {CITE} marks, the limit is {MAX_MARKS}; search a part of it")
    contexts = []
    sentences = _SENTENCE.split(source)
    for number, sentence in enumerate(sentences):
        pieces = sentence.split(CITE)
        before = sentences[number - 1] + " " if number else ""
        for mark in range(1, len(pieces)):
            marked = OTHER.join(pieces[:mark]) + CITE + OTHER.join(pieces[mark:])
            contexts.append(Context(before.replace(CITE, OTHER) + marked))
    return contexts


def read_queries(source: str) -> tuple[list[Query], Reading]:
    """The queries of a contexts file (a table or JSON lines, see data.corpus), or of a BEIR folder.

    A contexts file has rows of `text`, `cited_id` and optionally `citing_id`, `year` and `family`; rows
    with the same (citing_id, text) are one query with several cited papers. A BEIR folder has
    queries.jsonl and qrels.tsv or qrels/*.tsv (test before dev before train). Bad rows are rejected and
    counted, rows that repeat another are counted as duplicates.

    Raises UserError where nothing can be read.
    """
    path = Path(source)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder")
    reading = Reading()
    grouped: dict[tuple[str, str, str], dict[str, None]] = {}
    facts: list[tuple[int | None, str]] = []
    for place, row in _beir(path) if path.is_dir() else records(path, _COLUMNS):
        reading.read += 1
        try:
            key, cited = _checked(row)
        except Rejected as error:
            reading.reject(place, str(error))
            continue
        if key not in grouped:
            facts.append((year_in(row.get("year")), text(row.get("family"))))
        golds = grouped.setdefault(key, {})
        reading.duplicates += cited in golds
        golds[cited] = None
    if not grouped:
        first = f"; the first fault: {reading.rejects[0]}" if reading.rejects else ""
        raise UserError(f"{source}: no contexts with text and cited_id in it{first}")
    reading.accepted = reading.read - reading.rejected - reading.duplicates
    queries = [
        Query(query_id or f"q{number}", Context(body), citing_id, tuple(golds), *facts[number])
        for number, ((query_id, citing_id, body), golds) in enumerate(grouped.items())
    ]
    return queries, reading


def run_names(queries: Sequence[Query]) -> list[str]:
    """What the TREC files call the queries: their own ids where these are distinct words."""
    names = [query.query_id for query in queries]
    plain = len(set(names)) == len(names) and all(len(name.split()) == 1 for name in names)
    return names if plain else [f"q{number}" for number in range(len(queries))]


def _checked(row: Any) -> tuple[tuple[str, str, str], str]:
    """A row as the key that makes a query, its id of BEIR, citing paper and text, and the cited id."""
    if isinstance(row, Rejected):
        raise row
    if not isinstance(row, dict):
        raise Rejected(f"not a record but {type(row).__name__}")
    body, cited = text(row.get("text")), text(row.get("cited_id"))
    if not body or not cited:
        raise Rejected("no text" if not body else "no cited_id")
    return (text(row.get(_BEIR_ID)), text(row.get("citing_id")), body), cited


def _beir(path: Path) -> Iterator[Record]:
    queries = path / "queries.jsonl"
    names = ("qrels.tsv", "qrels/test.tsv", "qrels/dev.tsv", "qrels/train.tsv")
    qrels = next((path / name for name in names if (path / name).exists()), None)
    if qrels is None or not queries.exists():
        raise UserError(f"{path}: no BEIR folder (queries.jsonl and qrels.tsv or qrels/test.tsv)")
    texts = {
        str(row.get("_id")): row.get("text") for _, row in records(queries, _COLUMNS) if isinstance(row, dict)
    }
    for number, line in enumerate(qrels.read_text("utf-8", errors="replace").split("\n"), 1):
        query_id, cited, score = [*(part.strip() for part in line.split("\t")), "", "", ""][:3]
        if (number == 1 and score == "score") or not line.strip():
            continue
        place = f"{qrels.name} line {number}"
        try:
            relevant = float(score) > 0
        except ValueError:
            yield place, Rejected(f"not a relevance score: {score[:40]!r}")
            continue
        if relevant:
            yield place, {_BEIR_ID: query_id, "text": texts.get(query_id), "cited_id": cited}
