"""The learned ranker: what is known of each candidate in, the probability that it is the cited paper out.

A small network of one hidden layer gives every candidate a score, and the list as a whole the score of
"none of these". A softmax over all of them orders the candidates, and a logistic curve over it (Platt, 1999)
makes a probability of it, since a context may cite several papers. It is fitted on real citations
(`indexer fit`, model/fitting.py) with the listwise cross-entropy of ListNet (Cao et al., 2007), and
belongs to one encoder, whose fingerprint it carries: the cosines of another one mean something else.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import UserError
from data.files import read_shipped, write_atomically

Floats = NDArray[np.float32]
FILE = Path(__file__).parent / "weights" / "ranker.safetensors"
SHA256 = "83ec979ac07a42b2a4854fa50892b852cc11d7b838e4d128ec0f6ca9a6e3cbbb"
SHOWN = 10  # hits of a context whose probabilities a reader sees, and which are set right
_TENSORS = ("mean", "spread", "hidden", "bias", "out", "linear", "null", "null_bias", "slope", "shift")


@dataclass(frozen=True)
class Ranker:
    """The network. With F features and H hidden units: `mean`, `spread`, `linear` and `null` of shape (F,),
    `hidden` (F, H), `bias` and `out` (H,), `null_bias`, `slope` and `shift` (1,)."""

    features: tuple[str, ...]
    encoder: str
    threshold: float
    """The best candidate's probability below which nothing in the corpus is said to fit."""
    mean: Floats
    spread: Floats
    hidden: Floats
    bias: Floats
    out: Floats
    linear: Floats
    null: Floats
    null_bias: Floats
    slope: Floats
    shift: Floats

    def probabilities(self, features: Floats) -> Floats:
        """That of each candidate to be cited, shape (candidates, F) to (candidates,)."""
        if not len(features):
            return np.zeros(0, np.float32)
        x = np.asarray((features - self.mean) / self.spread, np.float32)
        scores = x @ self.linear + _gelu(x @ self.hidden + self.bias) @ self.out
        none = x.max(axis=0) @ self.null + self.null_bias
        return calibrated(
            softmax(np.concatenate([scores, none]))[:-1], float(self.slope[0]), float(self.shift[0])
        )

    def save(self, path: Path) -> str:
        """Write it to a file; the file's sha256. Raises UserError where it cannot be written."""
        from safetensors.numpy import save

        told = {
            "features": json.dumps(self.features),
            "encoder": self.encoder,
            "threshold": str(self.threshold),
        }
        raw = save({name: np.ascontiguousarray(getattr(self, name), np.float32) for name in _TENSORS}, told)
        try:
            write_atomically(path, raw)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
        return hashlib.sha256(raw).hexdigest()


def softmax(scores: Floats) -> Floats:
    """The share of each score, shape (scores,)."""
    odds = np.exp(scores - scores.max())
    return np.asarray(odds / odds.sum(), np.float32)


def calibrated(shares: Floats, slope: float, shift: float) -> Floats:
    """The probabilities of shares: the logistic curve of slope times their log odds and a shift."""
    inside = np.clip(shares.astype(np.float64), 1e-9, 1 - 1e-7)
    return np.asarray(1 / (1 + np.exp(-slope * np.log(inside / (1 - inside)) - shift)), np.float32)


def _gelu(x: Floats) -> Floats:
    """The tanh form of Hendrycks and Gimpel (2016)."""
    return np.asarray(0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))), np.float32)


def load(path: Path | None, features: tuple[str, ...]) -> Ranker:
    """The ranker of a file, or the one that ships; `features` are those that it will be given.

    Raises UserError where the file cannot be read, is not the one that was shipped, or takes other features.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load as read

    file = path or FILE
    again = "make it again with: indexer fit" if path else "install citemark again"
    try:
        raw = path.read_bytes() if path else read_shipped(FILE, SHA256, again)
        tensors = {name: tensor.astype(np.float32) for name, tensor in read(raw).items()}
        with safe_open(file, "np") as opened:
            told = opened.metadata()
        names = tuple(json.loads(told["features"]))
        ranker = Ranker(names, told["encoder"], float(told["threshold"]), **tensors)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); {again}") from None
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise UserError(f"{file}: no ranker; {again}") from None
    if names != features:
        raise UserError(f"{file}: made for the features {', '.join(names)}; {again}")
    if not all(np.isfinite(getattr(ranker, name)).all() for name in _TENSORS):
        raise UserError(f"{file}: it has a number that is not finite; {again}")
    return ranker
