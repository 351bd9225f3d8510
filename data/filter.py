"""Filters: which papers of a corpus are kept in a build, or allowed in a search."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.errors import UserError
from data.names import name_words, same_author
from data.paper import Paper
from data.table import PaperTable

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Filter:
    """Papers of any of the categories and any of the authors, first out in since..until.

    A category matches itself and its subcategories: `cs` keeps `cs.CL`. An author matches without
    case and accents, by the family name or with given names or initials before it, see
    data.names.same_author. A paper without a year does not pass a year filter; "published before
    2020" is `until=2019`. The filter without any condition keeps all.

    Raises UserError for an author without a letter.
    """

    categories: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    authors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        nobody = next((name for name in self.authors if not name_words(name)), None)
        if nobody is not None:
            raise UserError(f"author is {nobody!r}, which has no letter; give a family or a full name")

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Filter":
        """The inverse of dataclasses.asdict, after a way through JSON; what it lacks is no condition."""
        lists = {name: tuple(kept.get(name, ())) for name in ("categories", "authors")}
        return cls(since=kept.get("since"), until=kept.get("until"), **lists)

    def __bool__(self) -> bool:
        return self != Filter()

    def keeps(self, paper: Paper) -> bool:
        """Whether the paper passes."""
        return (
            self._keeps_year(paper.year)
            and (not self.categories or any(map(self._keeps_category, paper.categories)))
            and (not self.authors or any(map(self._keeps_author, paper.authors)))
        )

    def _keeps_year(self, year: int | None) -> bool:
        if year is None:
            return self.since is None and self.until is None
        return (self.since is None or self.since <= year) and (self.until is None or year <= self.until)

    def _keeps_category(self, category: str) -> bool:
        return any(f"{category}.".startswith(f"{wanted}.") for wanted in self.categories)

    def _keeps_author(self, name: str) -> bool:
        words = name_words(name)
        return any(same_author(wanted, words) for wanted in self._wanted)

    @cached_property
    def _wanted(self) -> list[list[str]]:
        return [name_words(name) for name in self.authors]

    def mask(self, papers: PaperTable) -> Mask:
        """Which rows pass, shape (len(papers),): as `keeps` says, from the columns that it needs."""
        mask = np.ones(len(papers), np.bool_)
        for column, passes in self._columns():
            mask &= np.concatenate([passes(part) for part in papers.column(column)] or [mask])
        return mask

    def of_batch(self, batch: pa.RecordBatch) -> Mask:
        """The same of rows of data.paper.SCHEMA, shape (len(batch),)."""
        mask = np.ones(len(batch), np.bool_)
        for column, passes in self._columns():
            mask &= passes(batch[column])
        return mask

    def _columns(self) -> Iterator[tuple[str, Callable[[pa.Array], Mask]]]:
        """The columns that are asked for, and what says of each which rows pass."""
        if self.since is not None or self.until is not None:
            yield "year", self._in_years
        if self.categories:
            yield "categories", partial(_any, kept=self._of_categories)
        if self.authors:
            yield "authors", partial(_any, kept=self._of_authors)

    def _in_years(self, years: pa.Array) -> Mask:
        return _each(years, self._keeps_year)

    def _of_categories(self, values: pa.Array) -> Mask:
        return _each(values, self._keeps_category)

    def _of_authors(self, values: pa.Array) -> Mask:
        # Only a name with the family name in it, or one beyond ASCII, is worth a look from Python.
        likely = pc.invert(pc.string_is_ascii(values))
        for *_, family in self._wanted:
            likely = pc.or_(likely, pc.match_substring(values, family, ignore_case=True))
        mask = _numbers(likely.cast(pa.uint8())).astype(np.bool_)
        mask[mask] = _each(values.filter(likely), self._keeps_author)
        return mask


def _numbers(values: pa.Array) -> NDArray[Any]:
    """Numbers, of which none is missing: Arrow's own ways to NumPy load pandas, a third of a second."""
    return np.from_dlpack(values)


def _each(values: pa.Array, keeps: Callable[[Any], bool]) -> Mask:
    """What `keeps` says of every value, asked once for each that differs."""
    coded = values.dictionary_encode("encode")  # a missing value is a value, too
    kept: Mask = np.array([keeps(value) for value in coded.dictionary.to_pylist()], np.bool_)
    every: Mask = kept[_numbers(coded.indices)]
    return every


def _any(lists: pa.ListArray, kept: Callable[[pa.Array], Mask]) -> Mask:
    """Which of the lists have a value that is kept."""
    mask: Mask = np.zeros(len(lists), np.bool_)
    mask[_numbers(pc.list_parent_indices(lists))[kept(lists.flatten())]] = True
    return mask


class Allowed(Protocol):
    """Rows that a search may look at: by a mask over all, or by their numbers in order."""

    @property
    def mask(self) -> Mask: ...

    @property
    def rows(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def __hash__(self) -> int: ...


class Chosen:
    """Rows that are known by a mask, and not by a filter."""

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.rows = np.flatnonzero(mask)

    def __len__(self) -> int:
        return len(self.rows)


class Selection:
    """The rows of one corpus that a filter allows, found when first needed.

    What searches rows takes the mask; an engine that has the fields itself takes the filter.
    """

    def __init__(self, papers: PaperTable, keep: Filter) -> None:
        self._papers = papers
        self.filter = keep

    @cached_property
    def mask(self) -> Mask:
        """Which rows are allowed, shape (papers,)."""
        return self.filter.mask(self._papers)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The allowed rows in their order."""
        return np.flatnonzero(self.mask)

    def __len__(self) -> int:
        return len(self.rows)
