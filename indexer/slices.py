"""Parts of an evaluation's contexts, each with its own recall: where a ranking is good and where not."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data.contexts import OTHER, Query

YEARS = (2010, 2015, 2020)  # where a slice of citing years begins
MARKS = 3  # so many citations in a sentence, or more

Slices = dict[str, NDArray[np.bool_]]


def slices(
    queries: Sequence[Query], trained: Collection[str] | None = None, drafts: Collection[str] = ()
) -> Slices:
    """Which (query, cited paper) pairs are in which part, in the order of measures.per_context.

    By whether the cited paper is one of `trained` (the papers that training contexts cite), by the
    citing year, the context's family, the number of citations in the sentence, and whether the citing paper
    is one of `drafts`, those whose title is known. A part that has all the pairs is left out.
    """
    names = [list(_parts(query, cited, trained, drafts)) for query in queries for cited in query.cited_ids]
    every = sorted({part for parts in names for part in parts})
    found = {part: np.array([part in parts for parts in names], np.bool_) for part in every}
    return {part: members for part, members in found.items() if not members.all()}


def _parts(
    query: Query, cited: str, trained: Collection[str] | None, drafts: Collection[str]
) -> Iterator[str]:
    if trained is not None:
        yield "cited in training" if cited in trained else "not cited in training"
    if query.citing_id in drafts:
        yield "draft known"
    if query.year is not None:
        begins = [year for year in YEARS if year <= query.year]
        later = [year for year in YEARS if year > query.year]
        yield f"year {begins[-1] if begins else '…'} to {later[0] - 1 if later else '…'}"
    if query.family:
        yield f"family {query.family}"
    citations = 1 + query.context.text.count(OTHER)
    yield f"{citations} citation{'s' * (citations > 1)}" if citations < MARKS else f"{MARKS}+ citations"
