"""The candidates of a context, and what is known of each: what every ranking but the plain ones orders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.contexts import Context
from data.filter import Selection
from indexer.snapshot import Snapshot
from model.encoder import Vectors
from model.text import query_text

if TYPE_CHECKING:
    from indexer.vectors import Rows

CANDIDATES = 300  # of the vectors, and of the words
LEXICAL_WEIGHT = 0.1  # on dev hit@10 is .505 with 0, .512 with .06, .515 with .1, .516 with .14
UNLEARNED_WEIGHT = 0.2  # with an encoder that was not trained for citations: .253 with .1, .266 with .2
PROFILE_WEIGHT = (
    0.3  # on dev, with the next, hit@300 is .840 with .2, .843, .845 with .4; hit@10 .576, .574, .570
)
CITED_WEIGHT = 0.02  # on dev hit@300 is .832 with 0, .843 with .02, .849 with .04; hit@10 .572, .574, .565
LONG = 30.0  # words of a sentence
SCORED = 20.0  # a BM25 score
ABSENT = -1.0  # the gap to the best of a paper that is not cited, which is beyond any cosine's

FEATURES = (
    "cosine", "cosine gap", "cosine rank", "bm25", "bm25 share", "bm25 rank", "title",
    "cited", "citations", "author", "authors", "first author", "last author",
    "profile", "profile gap", "profile rank", "nearest", "nearest gap", "nearest rank",
    "words", "words share", "words rank", "sum gap", "sum rank", "best sum", "fifth sum", "twentieth sum",
    "best cosine", "best bm25", "best profile", "best nearest", "best words", "length",
    "evidence", "texts", "draft", "draft cosine", "draft gap", "draft profile",
)  # fmt: skip


Use = Literal["texts", "vectors", "nothing"]
"""What is taken of the known citations: all, all but their words, or nothing."""


@dataclass(frozen=True)
class Draft:
    """What is known of the paper that is being written.

    `vector` is that of its title and abstract, None where they were not given. Neither the paper of the
    `row` (-1: not in the index) nor what `paper_id` is known to cite helps to answer.
    """

    vector: Vectors | None = None
    paper_id: str = ""
    row: int = -1


NO_DRAFT = Draft()


@dataclass(frozen=True)
class Pool:
    """The candidates of one context; each array has the shape (candidates,).

    `dense` is the cosine, `bm25` the score; `title` is the share of the title's words, and of others that
    the abstract stresses, that the context has: see indexer.lexical.Matches. `cited`, `renown` (of
    shape (candidates, 4)), `profile`, `nearest` and `words` are what indexer.evidence.Said has of them.
    `draft` is the cosine with the draft, if it was given, and `draft_profile` its cosine with the profile.
    `length` is that of the context in words; `evidence` and `texts` tell whether the index knows citations,
    and their sentences.
    """

    rows: "Rows"
    dense: Vectors
    bm25: Vectors
    title: Vectors
    cited: NDArray[np.int64]
    renown: Vectors
    profile: Vectors
    nearest: Vectors
    words: Vectors
    draft: Vectors | None
    draft_profile: Vectors
    length: int
    evidence: bool
    texts: bool

    @property
    def share(self) -> Vectors:
        """The BM25 score as a share of the context's best."""
        return _share(self.bm25)

    def only(self, chosen: NDArray[np.bool_]) -> "Pool":
        """The same with some of the candidates."""
        arrays: dict[str, Any] = {
            name: value[chosen] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **arrays)

    def sum(self, words: float = LEXICAL_WEIGHT) -> Vectors:
        """The cosine, `words` times the share of BM25, and what known citations add: the profile's cosine
        and how often the paper is cited, each by its weight."""
        known = PROFILE_WEIGHT * self.profile + CITED_WEIGHT * np.log1p(self.cited)
        return np.asarray(self.dense + words * self.share + known, np.float32)

    def features(self) -> NDArray[np.float32]:
        """What the ranker is told, shape (candidates, len(FEATURES))."""
        n = len(self.rows)
        known = self.cited > 0
        draft = np.zeros(n, np.float32) if self.draft is None else self.draft

        def same(value: float) -> Vectors:
            return np.full(n, value, np.float32)

        def best(values: Vectors) -> float:
            return float(values.max(initial=0.0))

        total = self.sum()
        ordered = np.sort(total)[::-1]

        def behind(place: int) -> float:
            """How far the candidate at this place, or the last, is from the best by the sum."""
            return float(ordered[0] - ordered[min(place, n) - 1]) if n else 0.0

        columns = (
            self.dense, self.dense - best(self.dense), _log_rank(self.dense),
            self.bm25 / SCORED, self.share, _log_rank(self.bm25), self.title,
            known, np.log1p(self.cited), *np.log1p(self.renown).T,
            self.profile, np.where(known, self.profile - best(self.profile), ABSENT), _log_rank(self.profile),
            self.nearest, np.where(known, self.nearest - best(self.nearest), ABSENT), _log_rank(self.nearest),
            self.words / SCORED, _share(self.words), _log_rank(self.words),
            total - best(total), _log_rank(total), same(best(total)), same(behind(5)), same(behind(20)),
            same(best(self.dense)), same(best(self.bm25) / SCORED), same(best(self.profile)),
            same(best(self.nearest)), same(best(self.words) / SCORED), same(self.length / LONG),
            same(self.evidence), same(self.texts), same(self.draft is not None),
            draft, draft - best(draft), self.draft_profile,
        )  # fmt: skip
        return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


def _share(scores: Vectors) -> Vectors:
    return np.asarray(scores / max(float(scores.max(initial=0.0)), 1e-9), np.float32)


def _log_rank(scores: Vectors) -> Vectors:
    """log(1 + how many are better): equal scores have one rank, so that the corpus's order says nothing."""
    better = len(scores) - np.searchsorted(np.sort(scores), scores, side="right")
    return np.log1p(better.astype(np.float32))


def pools(
    snapshot: Snapshot,
    contexts: Sequence[Context],
    queries: Vectors,
    k: int,
    keep: Selection | None,
    drafts: Sequence[Draft],
    use: Use,
    features: bool = True,
) -> Iterator[Pool]:
    """The candidates of each context, at least `k` from each source: vectors, words and known citations.

    `queries` are the contexts' vectors, shape (contexts, dimension). Without `features` titles' words and
    authors' renown are not looked at, since the features alone have them.
    """
    k = max(k, CANDIDATES)
    dense, dense_rows = snapshot.vectors.search(queries, k, keep)
    matches = snapshot.words.matches([query_text(c) for c in contexts])
    evidence = snapshot.evidence if use != "nothing" else None
    if evidence:
        near = evidence.near(queries, keep)
        worded = evidence.worded([c.text if use == "texts" else "" for c in contexts])
    asked = zip(contexts, queries, drafts, matches, strict=True)
    for number, (context, query, draft, words) in enumerate(asked):
        best = words.best(k, keep)
        parts = [dense_rows[number], best[words.scores[best] > 0]]
        if evidence:
            parts += [near[number], evidence.cited_in(worded[number][0])]
        rows = np.unique(np.concatenate(parts))
        rows = rows[(rows >= 0) & (rows != draft.row)]
        if keep is not None:
            rows = rows[keep.mask[rows]]
        cosines = _looked_up(rows, dense_rows[number], dense[number])
        missing = np.flatnonzero(~np.isin(rows, dense_rows[number]))
        cosines[missing] = snapshot.vectors.score(query, rows[missing].tolist())
        nothing = np.zeros(len(rows), np.float32)
        said = None
        if evidence:
            said = evidence.say(query, rows, worded[number], draft.vector, draft.paper_id, features)
        yield Pool(
            rows=rows,
            dense=cosines,
            bm25=words.scores[rows],
            title=words.stressed(rows) if features else nothing,
            cited=said.cited if said else np.zeros(len(rows), np.int64),
            renown=said.renown if said else np.zeros((len(rows), 4), np.float32),
            profile=said.profile if said else nothing,
            nearest=said.nearest if said else nothing,
            words=said.words if said else nothing,
            draft=None if draft.vector is None else snapshot.vectors.score(draft.vector, rows.tolist()),
            draft_profile=said.draft if said else nothing,
            length=len(context.text.split()),
            evidence=evidence is not None,
            texts=evidence is not None and evidence.has_words and use == "texts",
        )


def _looked_up(rows: "Rows", found: "Rows", scores: Vectors) -> Vectors:
    """The score of each of `rows`, 0 for those that are not among the found ones; `rows` are sorted."""
    values = np.zeros(len(rows), np.float32)
    place = np.minimum(np.searchsorted(rows, found), max(len(rows) - 1, 0))
    here = (rows[place] == found) if len(rows) else np.zeros(len(found), np.bool_)
    values[place[here]] = scores[here]
    return values
