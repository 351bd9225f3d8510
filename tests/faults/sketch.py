"""An encoder that needs no model, for what does not depend on what the vectors mean: it starts at once."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.contexts import Context
from data.paper import Paper
from model.encoder import Vectors


class Sketcher:
    """Has what a build and a search ask of an Encoder; the digest of a text draws its vector."""

    precision, device = "fp32", "cpu"

    def __init__(self, name: str = "sketch", *_: Any, dimension: int = 32) -> None:
        self.name, self.dimension = name, dimension
        self.fingerprint = f"sketch of {dimension} by {name}"

    def encode_papers(self, papers: Sequence[Paper]) -> Vectors:
        """Papers to unit vectors."""
        return self._draw([paper.title for paper in papers])

    def encode_contexts(self, contexts: Sequence[Context]) -> Vectors:
        """Contexts to unit vectors."""
        return self._draw([context.text for context in contexts])

    def _draw(self, texts: Sequence[str]) -> Vectors:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        drawn = [np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds]
        made = np.asarray(drawn, np.float32).reshape(-1, self.dimension)
        return np.ascontiguousarray(made / np.linalg.norm(made, axis=1, keepdims=True))
