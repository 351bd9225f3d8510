"""How to train: every number that shapes the result, and the recipes that set them together."""

from dataclasses import dataclass, replace

from data.errors import UserError
from model.text import Marks


@dataclass(frozen=True)
class Recipe:
    """The numbers of one training; two runs with equal recipes and data give equal weights.

    0 or None stands for what depends on the objective, the device or the base, see `settled`.
    """

    base: str = "minilm"
    frozen_documents: bool = False
    document_adapter: int = 0
    """Hidden units of the network on the frozen documents' vectors; 0: none."""
    adapter_lr: float = 1e-3
    prior: float = 0.0
    freeze_words: bool = False
    """Whether the queries keep the base's word vectors: half its weights, mostly of words in no example."""
    seed_loss: bool = False
    """The seed's own loss: every other passage of the batch is a negative, labels are not looked at."""
    labels_count: bool = True
    mask: bool = True
    marks: Marks | None = None
    """None: as the base was trained."""
    batch: int = 0
    mini_batch: int = 0
    lr: float = 0.0
    epochs: float = 2.0
    max_steps: int = 0
    warmup: float = 0.06
    schedule: str = "linear"
    weight_decay: float = 0.01
    scale: float = 20.0
    query_tokens: int = 0
    passage_tokens: int = 256
    synthetic: float = 0.0
    draft: float = 0.0
    noise: float = 0.0
    hard_negatives: int = 0
    margin: float = 0.05
    one_source_batches: bool = False
    seed: int = 42

    def settled(self, device: str, marks: Marks) -> "Recipe":
        """The recipe with nothing left open for this device and a base of these marks. Raises UserError."""
        gpu = device == "cuda"
        recipe = replace(
            self,
            batch=self.batch or (128 if self.frozen_documents else 1024 if gpu else 256),
            mini_batch=self.mini_batch or (256 if gpu else 32),
            lr=self.lr or (1e-4 if self.frozen_documents else 5e-5),
            query_tokens=self.query_tokens or (256 if self.draft else 80),
            marks=self.marks or marks,
        )
        recipe.check()
        return recipe

    def check(self) -> None:
        """Raise UserError for numbers that make no training."""
        for name in ("synthetic", "draft", "noise", "warmup", "margin"):
            value = getattr(self, name)
            if not 0 <= value <= 1 or (name == "synthetic" and value == 1):
                raise UserError(f"--{name} is {value}, not a share from 0 to 1")
        for name in (
            "batch",
            "mini_batch",
            "lr",
            "adapter_lr",
            "epochs",
            "scale",
            "query_tokens",
            "passage_tokens",
        ):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise UserError(f"--{name.replace('_', '-')} is {value}, not a number above 0")
        if self.prior < 0:
            raise UserError(f"--prior is {self.prior}, not a number from 0")
        for name in ("document_adapter", "prior"):
            if getattr(self, name) and not self.frozen_documents:
                raise UserError(f"--{name.replace('_', '-')} is for --frozen-documents; add it")
        if self.frozen_documents and (self.seed_loss or self.hard_negatives):
            other = "--recipe seed" if self.seed_loss else "--hard-negatives"
            raise UserError(
                f"--frozen-documents has the whole corpus as negatives, {other} does not go with it"
            )


RECIPES = {
    "citemark": Recipe(),
    "seed": Recipe(
        seed_loss=True,
        labels_count=False,
        mask=False,
        marks="keep",
        batch=16,
        lr=5e-5,
        epochs=3.0,
        warmup=0.0,
        weight_decay=0.0,
        query_tokens=256,
        seed=42,
    ),
}
"""`seed`: the first citation model's recipe, defects included, to measure the gain of each mend."""
