"""What an encoder learns from: files of pairs as (context, paper, label), papers as documents.

Every pair is a context and the paper that it cites, whatever the file says it in, so that training
encodes `query_text` and `passage_text` of it like indexing and search do.
"""

import csv
import gzip
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from numpy.typing import NDArray

from data import corpus
from data.clean import Rejected, text
from data.contexts import CITE, Context, read_queries
from data.errors import UserError, first_line
from data.filter import Filter
from data.paper import Paper
from data.table import PaperTable
from model.text import Marks, passage_text, query_text

Rows = NDArray[np.int64]

SENTENCE = re.compile(r"(?<=[.!?])\s+")
SENTENCE_WORDS = range(8, 61)  # of an abstract's sentence that can stand for a citing one
SHORT_WORDS = (2, 3, 4)
MAX_REJECTS = 0.05  # share of bad rows above which a file is not what it was taken for
_QUERIES = ("query", "anchor", "question")
_PASSAGES = ("passage", "positive", "answer", "pos", "document")
_PASSAGE_IDS = ("passage_id", "paper_id", "id")
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".zst": zstandard.open}


class Pair(NamedTuple):
    """A context, who wrote it, and the row of the document it cites; label 0: it does not cite it."""

    context: str
    citing_id: str
    row: int
    label: int = 1


@dataclass
class Source:
    """The pairs of one file, the weight it is drawn with, and what became of its rows."""

    name: str
    weight: float
    pairs: list[Pair]
    counts: Counter[str] = field(default_factory=Counter)


class Documents:
    """Everything that can be an answer: the papers of the corpus, then those that came with pairs."""

    def __init__(self, papers: Iterable[Paper] = ()) -> None:
        self.papers: list[Paper] = []
        self._rows: dict[str, int] = {}
        for paper in papers:
            self.add(paper)

    def __len__(self) -> int:
        return len(self.papers)

    def add(self, paper: Paper) -> int:
        """The paper's row; a second paper of the same id and text has the row of the first."""
        known = self._rows.get(paper.paper_id)
        if known is not None and passage_text(self.papers[known]) == passage_text(paper):
            return known
        self.papers.append(Paper(paper.paper_id, paper.title, paper.abstract))
        self._rows.setdefault(paper.paper_id, len(self.papers) - 1)
        return len(self.papers) - 1

    def find(self, paper_id: str) -> int | None:
        """The row of the paper with this id, or None."""
        return self._rows.get(paper_id)

    def keys(self) -> Rows:
        """A number for each row, the same for rows of one id or of one text (case and spaces aside)."""
        key = list(range(len(self.papers)))

        def root(row: int) -> int:
            while key[row] != row:
                key[row] = row = key[key[row]]
            return row

        first: dict[tuple[str, str], int] = {}
        for row, paper in enumerate(self.papers):
            for name in (("id", paper.paper_id), ("text", _plain(passage_text(paper)))):
                key[root(row)] = root(first.setdefault(name, row))
        return np.array([root(row) for row in range(len(key))], np.int64)


def read_documents(source: str) -> Documents:
    """The papers of a corpus (see data.corpus.read), each id once, its highest version.

    Raises UserError where it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "papers.arrow"
        corpus.write(source, table, Filter())
        return Documents(PaperTable(table))


def read_sources(
    names: Sequence[str], documents: Documents, *, labels_count: bool = True, weight: float | None = None
) -> list[Source]:
    """The pairs of files, folders, Hugging Face data sets (hf:owner/name:split) and mixtures.

    A mixture is a .json file of [{"name": path beside it, "weight": number}, …]; a data set named on
    its own weighs as many as its pairs. Papers that come with pairs are added to `documents`.

    With `labels_count`, rows of label 0 and rows of three-column data without [CITE] are left out and
    counted; without it every row is taken as a positive, as a loss that ignores labels takes it.

    Raises UserError for what cannot be read, or has too many bad rows.
    """
    sources = []
    for name in names:
        for path, share in _mixture(Path(name)) if name.endswith(".json") else [(name, weight)]:
            source = _source(path, documents, labels_count)
            source.weight = len(source.pairs) if share is None else share
            sources.append(source)
    return sources


def _mixture(path: Path) -> list[tuple[str, float | None]]:
    try:
        entries = json.loads(path.read_bytes())
        found: list[tuple[str, float | None]] = []
        for entry in entries:
            name, weight = str(entry["name"]), float(entry["weight"])
            if weight <= 0:
                raise ValueError(f"weight {weight} of {name}")
            found.append((name if name.startswith("hf:") else str(path.parent / name), weight))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: no mixture of data sets ({first_line(error)}); it is a JSON list of {{"name": path, '
            '"weight": number above 0}'
        ) from None
    if not found:
        raise UserError(f"{path}: an empty list; name at least one data set")
    return found


def _source(name: str, documents: Documents, labels_count: bool) -> Source:
    counts: Counter[str] = Counter()
    pairs: dict[Pair, None] = {}
    faults: list[str] = []
    for place, row in _rows(name):
        counts["rows"] += 1
        try:
            pair = _pair(row, documents)
        except Rejected as error:
            counts["rejected"] += 1
            faults.append(f"{place}: {error}")
            continue
        reason = _left_out(pair, row, labels_count)
        if reason:
            counts[reason] += 1
        elif pair in pairs:
            counts["duplicates"] += 1
        else:
            pairs[cast(Pair, pair)] = None
    counts["pairs"] = len(pairs)
    _check(name, counts, faults)
    return Source(name, 0.0, list(pairs), counts)


def _left_out(pair: Pair | None, row: Any, labels_count: bool) -> str:
    if pair is None:
        return "cited paper not in the corpus"
    if labels_count and isinstance(row, dict) and "sentence_0" in row and CITE not in pair.context:
        return "without [CITE]"
    if labels_count and pair.label == 0:
        return "label 0"
    return ""


def _check(name: str, counts: Counter[str], faults: list[str]) -> None:
    if counts["rejected"] > MAX_REJECTS * counts["rows"]:
        raise UserError(
            f"{name}: {counts['rejected']:,} of {counts['rows']:,} rows are no pairs (the limit is "
            f"{MAX_REJECTS:.0%}), the first: {faults[0]}; columns are text, citing_id, cited_id, or query, "
            "passage, or sentence_0, sentence_1, label"
        )
    if not counts["pairs"]:
        left = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n and reason != "rows")
        raise UserError(f"{name}: no pair to learn from in {counts['rows']:,} rows ({left or 'it is empty'})")


def _pair(row: Any, documents: Documents) -> Pair | None:
    """The pair of a row; None where it cites a paper that the corpus lacks. Raises Rejected."""
    if isinstance(row, list) and len(row) >= 2:
        row = {"query": row[0], "passage": row[1]}
    if not isinstance(row, dict):
        raise Rejected(f"not a record but {type(row).__name__}")
    if "cited_id" in row:
        context, cited = text(row.get("text")), text(row.get("cited_id"))
        _need({"text": context, "cited_id": cited})
        found = documents.find(cited)
        return None if found is None else Pair(context, text(row.get("citing_id")), found, _label(row))
    if "sentence_0" in row:
        context, paper = text(row["sentence_0"]), _three_column_paper(row.get("sentence_1"))
    else:
        context, paper = text(_first(row, _QUERIES)), _passage(row)
    _need({"query": context, "passage": paper.title})
    return Pair(context, text(row.get("citing_id")), documents.add(paper), _label(row))


def _need(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        if not value:
            raise Rejected(f"no {name}")


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    value = next((row[name] for name in names if row.get(name)), None)
    return value[0] if isinstance(value, list) and value else value


def _three_column_paper(passage: Any) -> Paper:
    """Three-column data writes a paper as title, three spaces, abstract."""
    title, _, abstract = str(passage or "").strip().partition("   ")
    return _paper("", title, abstract)


def _passage(row: dict[str, Any]) -> Paper:
    name, passage = text(_first(row, _PASSAGE_IDS)), _first(row, _PASSAGES)
    if passage is not None:
        return _paper(name, passage, "")
    return _paper(name, row.get("title"), row.get("abstract"))


def _paper(name: str, title: Any, abstract: Any) -> Paper:
    title, abstract = text(title), text(abstract)
    return Paper(name or f"text:{title} {abstract}", title, abstract)


def _label(row: dict[str, Any]) -> int:
    label = row.get("label", 1)
    try:
        return int(float(label) >= 0.5)
    except (TypeError, ValueError):
        raise Rejected(f"the label is {label!r}, not a number") from None


def _rows(name: str) -> Iterator[tuple[str, Any]]:
    """The rows of a source, with their places."""
    path = Path(name)
    try:
        if name.startswith("hf:"):
            yield from _hugging_face(name.removeprefix("hf:"))
        elif path.is_dir():
            yield from _beir(name)
        elif not path.exists():
            raise UserError(f"{name}: no such file or folder (a Hugging Face data set is hf:owner/name)")
        else:
            yield from _file(path)
    except (OSError, EOFError, zstandard.ZstdError, pa.ArrowInvalid, csv.Error) as error:
        raise UserError(f"{name}: cannot be read ({first_line(error)}); fetch or export it again") from None


def _beir(name: str) -> Iterator[tuple[str, Any]]:
    queries, _ = read_queries(name)
    for query in queries:
        for cited in query.cited_ids:
            row = {"text": query.context.text, "citing_id": query.citing_id, "cited_id": cited}
            yield query.query_id, row


def _file(path: Path) -> Iterator[tuple[str, Any]]:
    suffixes = [s for s in path.suffixes if s not in _OPENERS]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = (row for batch in file.iter_batches(1000) for row in batch.to_pylist())
            yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
    elif kind in (".csv", ".tsv", ".jsonl"):
        with _opened(path) as lines:
            read = _json_lines(lines) if kind == ".jsonl" else _csv(lines, "\t" if kind == ".tsv" else ",")
            yield from read
    else:
        raise UserError(f"{path}: pairs are .parquet, .jsonl, .csv or .tsv files, not {kind or 'this'}")


def _opened(path: Path) -> IO[str]:
    opener = _OPENERS.get(path.suffix, open)
    return cast(IO[str], opener(path, "rt", encoding="utf-8-sig", errors="replace", newline=""))


def _csv(lines: IO[str], delimiter: str) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(1 << 24)
    yield from ((f"row {n}", row) for n, row in enumerate(csv.DictReader(lines, delimiter=delimiter), 1))


def _json_lines(lines: IO[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield f"line {number}", row


def _hugging_face(name: str) -> Iterator[tuple[str, Any]]:
    import datasets  # heavy, and only this source needs it

    name, _, split = name.partition(":")
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, split=split or "train", streaming=True)
        yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
    except Exception as error:  # the library raises whatever its readers and the network raise
        raise UserError(
            f"hf:{name}: the data set cannot be loaded ({first_line(error)}); check name, split and network"
        ) from error


def _plain(value: str) -> str:
    return " ".join(value.lower().split())


def with_noise(pairs: Sequence[Pair], documents: Documents, share: float, seed: int) -> list[Pair]:
    """The pairs, of which a share cites a random wrong paper and has label 0.

    It makes of clean pairs what the seed's data are, whose mean label is 0.18.
    """
    rng = np.random.default_rng([seed, 82])
    cited: dict[str, set[int]] = {}
    for pair in pairs:
        cited.setdefault(pair.context, set()).add(pair.row)
    noisy = []
    for pair, wrong in zip(pairs, rng.random(len(pairs)) < share, strict=True):
        row = int(rng.integers(len(documents))) if wrong else pair.row
        noisy.append(pair._replace(row=row, label=int(row in cited[pair.context])))
    return noisy


def from_papers(documents: Documents, count: int, seed: int) -> list[Pair]:
    """Pairs made of the papers themselves, for uncited papers and for short questions.

    A paper of the corpus is asked for by a sentence of its abstract with a mark at its end (65%), by some
    words of its title (20%) or by its title (15%).
    """
    rng = np.random.default_rng([seed, 11])
    with_abstract = np.array([row for row, p in enumerate(documents.papers) if p.abstract], np.int64)
    pairs: list[Pair] = []
    tries = 0
    while len(pairs) < count and len(with_abstract):
        row = int(rng.choice(with_abstract))
        query = _asking_for(documents.papers[row], rng)
        if query:
            pairs.append(Pair(query, "", row))
        tries += 1
        if tries > 100 * (len(pairs) + 10):
            break
    if len(pairs) < count:
        raise UserError(f"the corpus has no abstracts to make pairs of ({len(with_abstract):,} abstracts)")
    return pairs


def _asking_for(paper: Paper, rng: np.random.Generator) -> str | None:
    kind = rng.random()
    words = paper.title.split()
    if kind < 0.15:
        return f"{paper.title} {CITE}" if rng.random() < 0.5 else paper.title
    if kind < 0.35 and len(words) >= min(SHORT_WORDS):
        length = int(rng.choice(SHORT_WORDS))
        start = int(rng.integers(max(1, len(words) - length + 1)))
        return " ".join(words[start : start + length])
    sentences = [s for s in SENTENCE.split(paper.abstract) if len(s.split()) in SENTENCE_WORDS]
    if not sentences:
        return None
    sentence = sentences[int(rng.integers(len(sentences)))].rstrip(".")
    return f"{sentence} {CITE}."


@dataclass(frozen=True)
class Examples:
    """Training examples: example i asks `queries[i]`, and `answers[i]` are its documents' rows.

    `known[i]` has the keys of all documents that are no negatives of it: whatever any pair with the same
    query text cites. `source[i]` is the number of the source it came from.
    """

    queries: list[str]
    answers: list[Rows]
    known: list[frozenset[int]]
    citing: list[str]
    source: Rows

    def __len__(self) -> int:
        return len(self.queries)


def examples(
    sources: Sequence[Source],
    documents: Documents,
    keys: Rows,
    marks: Marks,
    *,
    grouped: bool,
    draft: float = 0.0,
    seed: int = 0,
) -> Examples:
    """The sources' pairs as examples: one for each pair, or, `grouped`, one for each citing sentence.

    `draft` is the share of the citing sentences that have the citing paper's title and abstract after
    them, where the citing paper is among the documents.
    """
    rng = np.random.default_rng([seed, 5])
    drafted: dict[tuple[str, str], Paper | None] = {}
    groups: dict[tuple[int, str, str, int], list[int]] = {}
    known: dict[str, set[int]] = {}
    for number, source in enumerate(sources):
        for pair in source.pairs:
            own = -1 if grouped else pair.row
            groups.setdefault((number, pair.citing_id, pair.context, own), []).append(pair.row)
            known.setdefault(_asked(pair.context, marks), set()).add(int(keys[pair.row]))
            if (pair.citing_id, pair.context) not in drafted:
                row = documents.find(pair.citing_id) if draft and rng.random() < draft else None
                drafted[pair.citing_id, pair.context] = None if row is None else documents.papers[row]
    frozen = {asked: frozenset(found) for asked, found in known.items()}
    return Examples(
        queries=[query_text(Context(c), marks, drafted[citing, c]) for _, citing, c, _ in groups],
        answers=[np.array(list(dict.fromkeys(rows)), np.int64) for rows in groups.values()],
        known=[frozen[_asked(context, marks)] for _, _, context, _ in groups],
        citing=[citing for _, citing, _, _ in groups],
        source=np.array([number for number, _, _, _ in groups], np.int64),
    )


def _asked(context: str, marks: Marks) -> str:
    return _plain(query_text(Context(context), marks))
