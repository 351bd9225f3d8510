"""Records to rows, many at a time: the papers that data.clean.to_paper makes of them, and its rejects.

Records of arXiv's metadata snapshot are cleaned by columns: their texts lie in one buffer, of which NumPy
sees every byte a few times, where Python would look at each text in turn. A text that this cannot decide
goes to data.clean's own functions, and a record of any other form to `to_paper`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, pairwise, product
from operator import itemgetter
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.clean import (
    FIELDS,
    MAX_FIELD,
    NO_TITLE,
    Rejected,
    categories_in,
    printable,
    text,
    to_paper,
    year_in,
)
from data.latex import decode_accents
from data.paper import ARXIV_ID, SCHEMA, Paper, to_batch
from data.sources import MARKS

ROWS = 512  # of a full block: what is done once a block costs little, and a processor's cache holds it
_ALONE = 256  # of them cleaned one by one, which may be larger
_CHARACTERS = 4 << 20  # of a full block; records of arXiv have about 1,300 each

_USED = ("id", "title", "abstract", "journal-ref", "doi", "categories", "versions", "authors_parsed")
_VALUES = itemgetter(*_USED)
_OPTIONAL = (str, NoneType)
_SHAPES = frozenset(product((str,), (str,), *[_OPTIONAL] * 4, (list,), (list,)))
# What may stand for one of _USED; authors and update_date can only where there are no others.
_INSTEAD = frozenset((*FIELDS, *MARKS)) - {*_USED, "authors", "update_date"}

_BLANKS = "".join(map(chr, range(33)))
_FEW = 50  # fields of a record that is looked at; arXiv's have 14
_SHORT = 100  # characters of a date, or of categories, that is remembered
_MANY = 1 << 14  # of which so many are


class Block:
    """Records in their order, until `finish` makes rows of them; `full` says when that is due."""

    def __init__(self) -> None:
        self.count = 0
        self._characters = 0
        # Of the records that are cleaned together: their numbers, and their columns.
        self._numbers: list[int] = []
        self._ids: list[str] = []
        self._titles: list[str] = []
        self._abstracts: list[str] = []
        self._names: list[str] = []
        self._ends = [0]
        self._years: list[int] = []
        self._categories: list[tuple[str, ...]] = []
        self._venues: list[str] = []
        self._dois: list[str] = []
        self._versions: list[int] = []
        # Of the others.
        self._papers: list[tuple[int, Paper]] = []
        self._rejects: list[tuple[int, str]] = []

    @property
    def full(self) -> bool:
        """Whether the block has as many records, or as large ones, as memory should hold."""
        return self.count == ROWS or len(self._papers) == _ALONE or self._characters > _CHARACTERS

    def add(self, record: Any) -> None:
        """Take one record; a Rejected stands for one that could not be read."""
        if not self._takes(record):
            try:
                self._papers.append((self.count, to_paper(record)))
            except Rejected as error:
                self._rejects.append((self.count, str(error)))
        self.count += 1

    def _takes(self, record: Any) -> bool:
        """Whether it is an ordinary record of arXiv's, which then is in the columns."""
        if type(record) is not dict or len(record) > _FEW or not _is_arxivs(tuple(record)):
            return False
        try:
            values = _VALUES(record)
            if tuple(map(type, values)) not in _SHAPES:
                return False
            name, title, abstract, venue, doi, categories, versions, authors = values
            year = _year_of_day(versions[0]["created"][:-12])
            # [family, given, suffix, …]; blanks that an empty part leaves are cleaned away with others.
            names = [" ".join((parts[1], parts[0], parts[2])) for parts in authors]
        except (LookupError, TypeError):
            return False
        abstract, venue, doi, categories = abstract or "", venue or "", doi or "", categories or ""
        size = len(title) + len(abstract) + len(venue) + len(doi) + sum(map(len, names))
        match = ARXIV_ID.fullmatch(name)
        if (
            not (match and year and names)
            or match["version"]
            or (doi and not doi.startswith("10."))
            or len(categories) > _SHORT
            or size > MAX_FIELD
        ):
            return False
        self._numbers.append(self.count)
        self._characters += size
        self._ids.append(f"arxiv:{name}")
        self._titles.append(title)
        self._abstracts.append(abstract)
        self._names += names
        self._ends.append(len(self._names))
        self._years.append(year)
        self._categories.append(_categories_of(categories))
        self._venues.append(venue)
        self._dois.append(doi)
        self._versions.append(len(versions))
        return True

    def finish(self) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """The papers as one batch, and the rejects as (number of the record, reason), both in order."""
        rows, numbers = self._cleaned_together()
        if self._papers:
            alone, papers = zip(*self._papers, strict=True)
            order = np.argsort(np.concatenate([numbers, alone]))
            both = pa.Table.from_batches([rows, to_batch(papers)])
            rows = both.take(pa.array(order)).combine_chunks().to_batches()[0]
        return rows, sorted(self._rejects)

    def _cleaned_together(self) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """The rows of the columns, and the numbers of their records."""
        columns = (self._titles, self._abstracts, self._names, self._venues, self._dois)
        bounds = np.cumsum([0, *map(len, columns)]).tolist()
        cleaned = clean([*chain(*columns)], prose=bounds[3])
        titles, abstracts, names, venues, dois = (cleaned[i:j] for i, j in pairwise(bounds))
        named = _lengths(names) > 0
        ends = np.append(np.int32(0), np.cumsum(named, dtype=np.int32))[self._ends]
        rows = pa.RecordBatch.from_arrays(
            [
                pa.array(self._ids, pa.string()),
                titles,
                abstracts,
                pa.ListArray.from_arrays(pa.array(ends), names.filter(pa.array(named))),
                pa.array(self._years, pa.int32()),
                pa.array(self._categories, pa.list_(pa.string())),
                venues,
                dois,
                pa.array(self._versions, pa.int32()),
            ],
            schema=SCHEMA,
        )
        numbers, titled = np.array(self._numbers, np.int64), _lengths(titles) > 0
        if titled.all():
            return rows, numbers
        self._rejects += [(number, NO_TITLE) for number in numbers[~titled].tolist()]
        return rows.filter(pa.array(titled)), numbers[titled]


@lru_cache(16)
def _is_arxivs(fields: tuple[str, ...]) -> bool:
    """Whether records with these fields are read by _USED alone."""
    return _INSTEAD.isdisjoint(fields) and set(_USED) <= set(fields)


@lru_cache(_MANY)
def _year_of_day(day: str) -> int | None:
    """The year in `Mon, 2 Apr 2007 `, after whose last blank nothing can lengthen a number."""
    return year_in(day) if day.endswith(" ") and len(day) < _SHORT else None


@lru_cache(_MANY)
def _categories_of(value: str) -> tuple[str, ...]:
    return categories_in(value)


def clean(values: Sequence[str], prose: int) -> pa.StringArray:
    """Each as data.clean.text has it; of the first `prose` of them LaTeX's accents are decoded, too.

    None may be longer than MAX_FIELD.
    """
    try:
        array = pa.array(values, pa.string())
    except UnicodeEncodeError:  # a lone surrogate, which Arrow cannot hold
        array = pa.array([text(value) for value in values], pa.string())
    offsets, content = _buffers(pc.ascii_trim(array, _BLANKS))
    # A blank is what is up to a space: line ends, tabs, controls. Of several side by side one is left; as
    # the texts are trimmed, those are of one text.
    blank = content <= ord(" ")
    extra = np.flatnonzero(blank[1:] & blank[:-1])
    offsets = offsets - np.searchsorted(extra, offsets).astype(np.int32)
    content = np.delete(content, extra)
    np.maximum(content, ord(" "), out=content)
    array = pa.StringArray.from_buffers(len(array), pa.py_buffer(offsets), pa.py_buffer(content))
    rows = _rows((content > ord("~")) | (content == ord("\\")), offsets)
    if not len(rows):
        return array
    lines = map(printable, array.take(pa.array(rows)).to_pylist())
    new = [
        decode_accents(line) if row < prose else line for row, line in zip(rows.tolist(), lines, strict=True)
    ]
    mask = np.zeros(len(array), np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(array, pa.array(mask), pa.array(new, pa.string()))


def _buffers(array: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Where the texts start and end, and the bytes that this counts."""
    _, offsets, content = array.buffers()
    starts = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return starts, np.frombuffer(content or b"", np.uint8)[: starts[-1]]


def _lengths(array: pa.StringArray) -> NDArray[np.int32]:
    return np.diff(_buffers(array)[0])


def _rows(marked: NDArray[np.bool_], offsets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Which texts have a byte that is marked."""
    return np.unique(np.searchsorted(offsets, np.flatnonzero(marked), "right") - 1)
