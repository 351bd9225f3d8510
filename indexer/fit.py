"""A ranker fitted on real citations: what the index finds for their contexts, and which of it was cited."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.contexts import Query
from data.errors import UserError
from data.paper import Paper
from indexer.candidates import FEATURES, Pool, Use
from indexer.measures import auroc
from indexer.search import Searcher
from indexer.shards import Progress
from model.fitting import Example, fit
from model.ranker import SHOWN, Ranker

BATCH = 64
UNCITED = 2.0  # what a list counts whose cited paper is in no known citation: on dev those papers' hit@10 is
# .320 with 2 and .328 with 3, and of all .615 and .613, by quicker fits
REMOVED = 3  # every so many lists also comes without what was cited, to teach what nothing fits looks like
SURE = 0.8  # of the contexts of which it is said that nothing fits, this share lacks its paper in the list


@dataclass(frozen=True)
class Fitted:
    """A ranker, how many lists it was fitted on, and how well the folds could tell lists apart whose cited
    papers were removed (`auroc`)."""

    ranker: Ranker
    lists: int
    auroc: float

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"lists": self.lists, "auroc": self.auroc, "threshold": self.ranker.threshold}


@dataclass(frozen=True)
class Part:
    """Citations that the encoder of an index does not know, and the searcher of that index."""

    searcher: Searcher
    queries: Sequence[Query]


def fit_ranker(parts: Sequence[Part], encoder: str, progress: Progress) -> Fitted:
    """Fit a ranker for the encoder of this fingerprint on citations that neither should know.

    What an index knows of citations by the same citing paper is left out for each query, so that its
    evidence says no more than it would of a new draft. An encoder cannot unlearn: queries that it was
    trained on make the ranker trust it too much. So several encoders that were trained alike, each without
    another part of the citations, give a ranker for their like more to learn from than one (cross-fitting).
    The first part alone sets the probabilities: what its index knows should be like what a user's will know.

    Raises UserError where too few of the cited papers are found to learn from, or nothing but these.
    """
    examples: list[Example] = []
    removed: list[tuple[int, int]] = []  # places of the natural list and of the one without what was cited
    for number, part in enumerate(parts):
        for query, rows, is_fullest, pool in _lists(part, progress):
            if not len(pool.rows):
                continue
            right = np.isin(pool.rows, rows)
            uncited = pool.evidence and right.any() and not pool.cited[right].any()
            weight = UNCITED if uncited else 1.0
            examples.append(Example(pool.features(), right, query.citing_id, weight, natural=number == 0))
            if is_fullest and right.any() and not right.all() and len(examples) % REMOVED == 0:
                removed.append((len(examples) - 1, len(examples)))
                rest = pool.only(~right)
                nothing = np.zeros(len(rest.rows), np.bool_)
                examples.append(Example(rest.features(), nothing, query.citing_id, natural=False))
    if sum(example.right.any() for example in examples) < 100:
        raise UserError("fewer than 100 of the contexts cite a paper that the index finds; give it more")
    if not removed:
        raise UserError("the index finds only papers that are cited, none beside them; use a larger one")
    ranker, folds = fit(examples, FEATURES, encoder, progress)
    best = np.array([float(p.max(initial=0.0)) for p in folds])
    there, gone = (best[[pair[side] for pair in removed]] for side in (0, 1))
    shown = [np.argsort(-p, kind="stable")[:SHOWN] for p in folds]
    lacking = np.array([not e.right[order].any() for e, order in zip(examples, shown, strict=True)])
    natural = np.array([example.natural for example in examples])
    limit = threshold(best[natural], lacking[natural])
    return Fitted(replace(ranker, threshold=limit), len(examples), auroc(there, gone))


def _lists(part: Part, progress: Progress) -> Iterator[tuple[Query, NDArray[np.int64], bool, Pool]]:
    """The candidates of each query and the rows that it cites: with all evidence, with less, with a draft;
    and whether it is with as much evidence as the index has."""
    searcher, queries, snapshot = part.searcher, part.queries, part.searcher.snapshot
    papers = snapshot.papers
    evidence = snapshot.evidence
    variants: list[tuple[Use, bool]] = [("nothing", False)]
    if evidence:
        variants = [("texts", False), ("texts", True), ("vectors", False), ("nothing", True)]
    for start in range(0, len(queries), BATCH):
        batch = queries[start : start + BATCH]
        progress("candidates", start, len(queries), " contexts")
        rows = [papers.rows_of(query.cited_ids) for query in batch]
        own = papers.rows_of([query.citing_id for query in batch])
        written = dict(zip(own[own >= 0].tolist(), papers.take(own[own >= 0].tolist()), strict=True))
        queried = searcher.encode([query.context for query in batch], snapshot)
        for use, with_draft in variants:
            chosen = [n for n in range(len(batch)) if not with_draft or int(own[n]) in written]
            drafts = [written[int(own[n])] if with_draft else Paper(batch[n].citing_id, "") for n in chosen]
            contexts = [batch[n].context for n in chosen]
            found = searcher.pools(contexts, 0, snapshot, drafts=drafts, use=use, queries=queried[chosen])
            for n, pool in zip(chosen, found, strict=True):
                yield batch[n], rows[n][rows[n] >= 0], use == variants[0][0], pool
    progress("candidates", len(queries), len(queries), " contexts")


def threshold(best: NDArray[np.float64], lacking: NDArray[np.bool_]) -> float:
    """The greatest of these probabilities below which SURE of the lists lack what is cited."""
    order = np.argsort(best)
    share = np.cumsum(lacking[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= SURE)
    return float(best[order[enough[-1]]]) if len(enough) else 0.0
