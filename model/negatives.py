"""Hard negatives: papers close to a context that nobody is known to cite there."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.encoder import Vectors
from model.training_data import Examples, Rows

BLOCK = 256  # queries whose scores are held at once


def mine(
    asked: Examples,
    queries: Vectors,
    documents: NDArray[np.float16],
    keys: Rows,
    *,
    count: int,
    margin: float,
    seed: int,
) -> Rows:
    """For each example the rows of its `count` closest false documents, shape (examples, count).

    `queries` (examples, dimension) and `documents` (documents, dimension) are unit vectors. Left out
    are the query's right answers, whatever else its citing paper cites in the data (co-cited papers
    are often right too), and documents within the relative margin of the best right answer: a cosine
    above (1 - margin) times its cosine is more likely a citation missed than a mistake. Where too few
    are left, random documents that are not right answers fill up.
    """
    excluded = co_cited(asked, keys)
    rows_of = _rows_of(keys)
    rng = np.random.default_rng([seed, 7])
    found = np.empty((len(asked), count), np.int64)
    matrix = documents.astype(np.float32)
    for start in range(0, len(asked), BLOCK):
        scores = queries[start : start + BLOCK] @ matrix.T
        for offset, row in enumerate(scores):
            number = start + offset
            ceiling = (1 - margin) * row[asked.answers[number]].max()
            row[row > ceiling] = -np.inf
            for key in excluded[number]:
                row[rows_of[key]] = -np.inf
            found[number] = _closest(row, count, rng, excluded[number], keys)
    return found


def co_cited(asked: Examples, keys: Rows) -> list[frozenset[int]]:
    """The keys that are no negatives of each example: its right answers, and its citing paper's others."""
    cited: dict[str, set[int]] = {}
    for citing, answers in zip(asked.citing, asked.answers, strict=True):
        if citing:
            cited.setdefault(citing, set()).update(keys[answers].tolist())
    return [known | cited.get(citing, set()) for known, citing in zip(asked.known, asked.citing, strict=True)]


def _closest(
    scores: Vectors, count: int, rng: np.random.Generator, excluded: frozenset[int], keys: Rows
) -> Rows:
    best: Rows = np.argpartition(-scores, min(count, len(scores) - 1))[:count]
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[np.isfinite(scores[best])]
    allowed = np.flatnonzero(~np.isin(keys, list(excluded))) if len(best) < count else best
    if len(best) < count and len(allowed):
        best = np.concatenate([best, rng.choice(allowed, count - len(best))])
    return best if len(best) == count else np.resize(np.arange(len(keys)), count)


def _rows_of(keys: Rows) -> dict[int, Sequence[int]]:
    rows: dict[int, list[int]] = {}
    for row, key in enumerate(keys.tolist()):
        rows.setdefault(key, []).append(row)
    return dict(rows)
