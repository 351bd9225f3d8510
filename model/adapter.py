"""A small network on documents' vectors: what training teaches the documents while their encoder stays.

Encoding a corpus is what a CPU spends its hours on. With the encoder of the documents frozen their
vectors are computed once, and a residual network that moves them is trained together with the query
encoder: it costs seconds where a second tower costs hours, and the corpus need not be encoded again.
"""

from typing import Any, Self, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Module, Normalize, Router
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize, relu

QUERY, DOCUMENT = "query", "document"


class Adapter(Module):
    """x + down(relu(up(x √d))), normalised; the identity when new. Vectors have unit length.

    A module of the document's branch while it is trained; `as_dense` gives the same function in modules
    that sentence-transformers loads without code of ours.
    """

    config_keys: list[str] = ["dimension", "hidden", "dropout"]  # noqa: RUF012, as its base declares it

    def __init__(self, dimension: int, hidden: int, dropout: float = 0.1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dimension, self.hidden, self.dropout = dimension, hidden, dropout
        self.up = nn.Linear(dimension, hidden)
        self.down = nn.Linear(hidden, dimension)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def adapt(self, vectors: Tensor) -> Tensor:
        """Unit vectors, shape (n, dimension), to where training moved them, in float32."""
        vectors = vectors.float()
        hidden = relu(self.up(vectors * self._scale))
        return normalize(vectors + self.down(dropout(hidden, self.dropout, self.training)).float(), dim=1)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """As a module of a sentence-transformers model."""
        features["sentence_embedding"] = self.adapt(features["sentence_embedding"])
        return features

    @property
    def _scale(self) -> float:
        """Components of unit vectors are about 1/√d: the hidden units see numbers about 1."""
        return float(self.dimension**0.5)

    @torch.no_grad()
    def as_dense(self) -> list[Module]:
        """The same function as standard modules: x = relu(x) - relu(-x) carries x past the hidden units."""
        one = torch.eye(self.dimension)
        zero = torch.zeros(self.dimension)
        up, down = self.up.cpu(), self.down.cpu()
        return [
            Dense(
                self.dimension,
                self.hidden + 2 * self.dimension,
                activation_function=nn.ReLU(),
                init_weight=torch.cat([up.weight * self._scale, one, -one]),
                init_bias=torch.cat([up.bias, zero, zero]),
            ),
            Dense(
                self.hidden + 2 * self.dimension,
                self.dimension,
                activation_function=nn.Identity(),
                init_weight=torch.cat([down.weight, one, -one], dim=1),
                init_bias=down.bias.clone(),
            ),
            Normalize(),
        ]

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the module's folder, for checkpoints."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> Self:  # type: ignore[override]
        """Read what `save` wrote."""
        place: dict[str, Any] = {"model_name_or_path": model_name_or_path, "subfolder": subfolder}
        adapter = cls(**cls.load_config(**place))
        return cast(Self, cls.load_torch_weights(**place, model=adapter))


def from_dense(up: dict[str, Tensor], down: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's weights again, from those of the two Dense modules that `as_dense` made of it."""
    dimension, width = down["linear.weight"].shape
    hidden = width - 2 * dimension
    return {
        "up.weight": up["linear.weight"][:hidden] / dimension**0.5,
        "up.bias": up["linear.bias"][:hidden],
        "down.weight": down["linear.weight"][:, :hidden],
        "down.bias": down["linear.bias"],
    }


def adapter_of(model: SentenceTransformer) -> Adapter | None:
    """The adapter at the end of a model's document branch, if it is being trained with one."""
    if not isinstance(model[0], Router):
        return None
    *_, last = _branch(model[0])
    return last if isinstance(last, Adapter) else None


@torch.no_grad()
def adapted(model: SentenceTransformer, vectors: Tensor, block: int = 8192) -> Tensor:
    """The frozen encoder's vectors as the model's adapter moves them now; unchanged without one."""
    adapter = adapter_of(model)
    if adapter is None:
        return vectors
    training = adapter.training
    adapter.eval()
    with torch.autocast(vectors.device.type, torch.bfloat16, enabled=vectors.dtype == torch.bfloat16):
        moved = torch.cat([adapter.adapt(part).to(vectors.dtype) for part in torch.split(vectors, block)])
    adapter.train(training)
    return moved


def add_adapter(model: SentenceTransformer, hidden: int) -> None:
    """Put a new adapter at the end of a model's document branch, after what gives its vectors unit length."""
    branch: Any = cast(Router, model[0]).sub_modules[DOCUMENT]
    if not isinstance(branch[-1], Normalize):
        branch.append(Normalize())
    branch.append(Adapter(int(model.get_embedding_dimension() or 0), hidden).to(model.device))


def without_adapter(model: SentenceTransformer) -> None:
    """Put standard modules in the place of the adapter: the model then loads without this project."""
    adapter = adapter_of(model)
    if adapter is not None:
        router = cast(Router, model[0])
        dense = [module.to(model.device) for module in adapter.as_dense()]
        router.sub_modules[DOCUMENT] = nn.Sequential(*_branch(router)[:-1], *dense)


def _branch(router: Router) -> list[Module]:
    return list(cast(Any, router.sub_modules[DOCUMENT]))
