"""Which index of vectors serves a corpus: chosen by its size and device, here alone.

| vectors | device | kind | looks at | measured (3,000,000 x 384, two cores, k = 100) |
|---|---|---|---|---|
| to EXACT_UP_TO | CPU | `exact` | every vector, 16-bit floats | 54 ms, recall 1 |
| above | CPU | `lists` | the nearest lists' codes, then exact vectors | 5.3 ms, recall .994 |
| any that fit its memory | GPU | `exact` | every vector, 16-bit floats | never run |
| others, above EXACT_UP_TO | GPU | `lists` | codes on the card, then exact vectors | never run |

The exact vectors are always there: what re-scores, filters, updates and publishes reads them. So the same
folder is searched exactly by a GPU that holds it, by codes that are made when it is opened on one that does
not, and by its lists on a machine without. A GPU that has no room at all leaves it to the CPU.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.contexts import CITE, Context
from data.errors import UserError
from data.table import PaperTable
from indexer import codes, gpu, nearest, vectors
from indexer.gpu import Card
from indexer.nearest import Effort, Lists
from indexer.settings import LEAST_RECALL
from indexer.shards import Progress
from indexer.vectors import VectorIndex, VectorSource
from model.encoder import Encoder, Vectors

EXACT_UP_TO = 400_000  # vectors: two cores look at so many in some 10 ms
QUERIES = 512  # that the lists are measured with: half of so many set the effort
FOLDER = "lists"
log = logging.getLogger("indexer.kinds")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")

Kind = Literal["auto", "exact", "lists"]


def chosen(asked: Kind, count: int, dimension: int, card: Card | None) -> Kind:
    """The kind of index for so many vectors on a GPU's card, None being the CPU, unless one is asked for."""
    if asked != "auto":
        return asked
    fits = card is not None and card.holds_exact(count, dimension)
    return "exact" if count <= EXACT_UP_TO or fits else "lists"


def write(
    folder: Path,
    asked: Kind,
    card: Card | None,
    queries: Callable[[], Vectors | None],
    progress: Progress,
    before: Path | None = None,
) -> dict[str, Any]:
    """Add to a generation's folder, which has its vectors, what their kind needs besides; for its manifest.

    `queries`, asked for only where there is something to measure, gives what measures the recall; without
    any the vectors are searched exactly. `before` is the folder of the generation that this one updates.
    """
    exact = vectors.VectorIndex(folder / "vectors.faiss")
    sample = queries() if chosen(asked, len(exact), exact.dimension, card) == "lists" else None
    if sample is None:
        return {"kind": "exact", "asked": asked}
    like = before / FOLDER if before and (before / FOLDER).exists() else None

    def told(done: int) -> None:
        progress("lists", done, len(exact), " papers")

    return {"kind": "lists", "asked": asked} | nearest.write(folder / FOLDER, exact, sample, told, like)


def opened(folder: Path, facts: dict[str, Any], card: Card | None) -> VectorSource:
    """The vectors of a generation, as its manifest says that they are searched, or by a GPU's card.

    Raises UserError for a manifest that does not say how far to look.
    """
    exact = vectors.VectorIndex(folder / "vectors.faiss")
    if card and (on_card := gpu.exactly(exact, card)):
        return on_card
    lists = _lists(folder, facts, exact) if facts.get("kind") == "lists" else None
    if card and lists and len(exact) > EXACT_UP_TO:
        measured = nearest.queries_of(folder / FOLDER), nearest.answers_of(folder / FOLDER, exact)
        if coded := codes.by_codes(lists, exact, card, measured):
            if coded.recall < LEAST_RECALL:
                log.warning(
                    "vectors coded for the GPU find %.4f of the exact answers, below %s that is aimed at",
                    coded.recall,
                    LEAST_RECALL,
                )
            return coded
    if card:
        log.warning(
            "%s vectors do not fit the GPU, which has %.1f GB free: the CPU searches them",
            f"{len(exact):,}",
            card.free / 1e9,
        )
    return lists or exact


def _lists(folder: Path, facts: dict[str, Any], exact: VectorIndex) -> Lists:
    try:
        return Lists(folder / FOLDER, exact, [Effort(**effort) for effort in facts["efforts"]])
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{folder / 'manifest.json'} says vectors {facts}, which is no effort to search them with; "
            "build the index again"
        ) from None


def sample_queries(papers: PaperTable, encoder: Encoder, count: int = QUERIES) -> Vectors:
    """Vectors of queries like a reader's, (count, dimension): sentences of papers of the corpus."""
    return encoder.encode_contexts([Context(f"{sentence} {CITE}") for sentence in sentences(papers, count)])


def sentences(papers: PaperTable, count: int) -> list[str]:
    """One sentence each of `count` papers, drawn at random."""
    rows = np.random.default_rng(0).choice(len(papers), min(count, len(papers)), replace=False)
    found = [_SENTENCE.split(paper.abstract or paper.title) for paper in papers.take(rows.tolist())]
    # One in the middle: the first and the last of an abstract are much alike.
    return [each[len(each) // 2] for each in found]
