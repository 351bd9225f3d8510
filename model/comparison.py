"""The reranker's middle: what is left of a pair of texts when a transformer has read both at once."""

from typing import Any, Self

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor
from torch.nn.functional import normalize

SCALE = 20.0  # of the cosine that a new reranker begins with, as in training the encoder


class Comparison(Module):
    """Products of the components of two texts' mean vectors; their sum is the cosine times SCALE.

    A linear layer of ones after it makes a new reranker an encoder that reads its two texts together: it
    ranks before the first step of training, where a layer on one vector of both texts begins with nothing.
    """

    config_keys: list[str] = []  # noqa: RUF012, as its base declares it

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Puts `sentence_embedding`, shape (pairs, dimension), float32, beside what is there."""
        tokens = features["token_embeddings"].float()
        present = features["attention_mask"].float()
        second = features["token_type_ids"].float() * present
        first = present - second
        features["sentence_embedding"] = SCALE * _mean(tokens, first) * _mean(tokens, second)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """There is nothing to write but the empty config."""
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, **options: Any) -> Self:  # type: ignore[override]
        """It has no weights."""
        return cls()


def _mean(tokens: Tensor, chosen: Tensor) -> Tensor:
    total = torch.einsum("btd,bt->bd", tokens, chosen)
    return normalize(total / chosen.sum(1, keepdim=True).clamp_min(1.0), dim=1)
