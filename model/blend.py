"""The ranker's probabilities and a reranker's logits, brought together.

A logit says how well a paper reads beside a context; how often such a paper is cited, and all else that the
first stage knows, it does not say. So it moves the first stage's log odds, by `weight` for each unit that it
is above what the list had led to expect, and a logistic curve makes a probability of it again (Platt, 1999).
The three numbers are fitted on real citations (`indexer fit --reranker`) and lie in the reranker's folder.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.files import write_atomically
from model.ranker import Floats

FILE = "ranking.json"  # in the reranker's folder
LEAST = 100  # lists to fit on

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """How the logits of the reranker with one fingerprint change the ranking of one encoder's index.

    `threshold` is the best candidate's probability below which nothing in the corpus is said to fit.
    """

    weight: float
    slope: float
    shift: float
    threshold: float
    encoder: str
    reranker: str

    def probabilities(self, told: Floats, logits: Floats) -> Floats:
        """Those of the candidates of one context, from the ranker's and the logits; all (candidates,)."""
        odds = self.slope * moved(told, logits, self.weight) + self.shift
        return np.asarray((1 + np.tanh(odds / 2)) / 2, np.float32)  # the logistic curve, without overflow

    def save(self, folder: Path) -> Path:
        """Write it beside the reranker; where. Raises UserError."""
        path = folder / FILE
        try:
            write_atomically(path, json.dumps(asdict(self), indent=1).encode() + b"\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); copy the folder") from None
        return path


def moved(told: Floats, logits: Floats, weight: float) -> Doubles:
    """The log odds of probabilities, moved by the logits: those of one list, shape (candidates,).

    Evidence in Bayes' sense: exp(weight × logit) over its mean, in which each candidate counts as it is
    probable. So neither an unlikely candidate more, nor a number added to all logits, moves the others.
    """
    if not len(told):
        return np.zeros(0)
    inside = np.clip(told.astype(np.float64), 1e-9, 1 - 1e-7)
    read = weight * logits.astype(np.float64)
    read -= read.max()
    expected = np.log((inside / inside.sum()) @ np.exp(read))
    return np.asarray(np.log(inside / (1 - inside)) + read - expected)


def fit(
    lists: Sequence[tuple[Floats, Floats, NDArray[np.bool_]]], encoder: str, reranker: str
) -> tuple[Blend, list[Floats]]:
    """The blend of the greatest likelihood, its threshold 0, and what it makes of each list.

    A list is the ranker's probabilities of the first candidates of a context, their logits, and which of
    them are cited. Raises UserError where there is too little to learn from.
    """
    from scipy.optimize import minimize

    if sum(right.any() for *_, right in lists) < LEAST:
        raise UserError(
            f"fewer than {LEAST} of the contexts cite a paper that the ranking has among those to read; "
            "give it more"
        )
    right = np.concatenate([cited for *_, cited in lists])

    def loss(numbers: Doubles) -> float:
        weight, slope, shift = numbers
        odds = slope * np.concatenate([moved(told, logits, weight) for told, logits, _ in lists]) + shift
        return float((np.logaddexp(0, odds) - right * odds).mean())

    weight, slope, shift = minimize(loss, np.array([0.0, 1.0, 0.0]), method="L-BFGS-B").x.tolist()
    if slope <= 0:
        raise UserError(
            "in these contexts the likelier papers are cited no more often than the others; give contexts "
            "of this corpus"
        )
    blend = Blend(weight, slope, shift, 0.0, encoder, reranker)
    return blend, [blend.probabilities(told, logits) for told, logits, _ in lists]


def load(folder: Path, encoder: str, reranker: str) -> Blend:
    """The blend of a reranker's folder, for an index by `encoder` and the weights of `reranker`.

    Raises UserError where it was not fitted, or with others than these.
    """
    path = folder / FILE
    again = f"fit it with: indexer fit CONTEXTS --reranker {folder}"
    try:
        blend = Blend(**json.loads(path.read_bytes()))
        numbers = blend.weight, blend.slope, blend.shift, blend.threshold
        if not np.isfinite(numbers).all() or blend.slope <= 0:
            raise ValueError(numbers)
    except FileNotFoundError:
        raise UserError(f"--reranker {folder} was not fitted to a ranking; {again}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {again}") from None
    except (ValueError, TypeError):
        raise UserError(f"{path}: not the numbers of a fitted reranker; {again}") from None
    for what, theirs, ours in (("encoder", blend.encoder, encoder), ("reranker", blend.reranker, reranker)):
        if theirs != ours:
            raise UserError(f"{path} was fitted with the {what} {theirs}, this one is {ours}; {again}")
    return blend
