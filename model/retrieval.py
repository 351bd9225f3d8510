"""Evaluation during training: where the cited papers stand among the candidates."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.evaluation import BaseEvaluator
from torch.nn.functional import normalize

from model.adapter import adapted
from model.training_data import Examples, Rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CUTOFFS = (1, 10, 50, 300)
POSITIVE_SHARE = 0.18  # mean label of the data that the first model's Spearman was reported on
BLOCK = 256  # queries whose scores are held at once

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class DevSet:
    """Queries, the places of their cited papers among the candidates, and the candidates' texts.

    `seen[i]` says for each cited paper of query i whether training cites it too.
    """

    queries: list[str]
    golds: list[Rows]
    seen: list[Bools]
    passages: list[str]


def dev_set(
    asked: Examples, passages: Sequence[str], keys: Rows, trained: set[int], limit: int, seed: int
) -> tuple[DevSet, Rows]:
    """The dev set over all cited papers and `limit` other ones drawn at random (0: all), and its rows."""
    cited = np.unique(np.concatenate(asked.answers))
    rows = np.arange(len(passages), dtype=np.int64)
    if limit:
        others = np.setdiff1d(rows, cited)
        drawn = np.random.default_rng([seed, 3]).permutation(others)[:limit]
        rows = np.sort(np.concatenate([cited, drawn]))
    golds = [np.searchsorted(rows, answers) for answers in asked.answers]
    seen = [np.array([int(keys[row]) in trained for row in answers]) for answers in asked.answers]
    return DevSet(asked.queries, golds, seen, [passages[row] for row in rows.tolist()]), rows


class Retrieval(BaseEvaluator):
    """Recall of a model on a dev set, as a sentence-transformers evaluator.

    `hit@k` and `MRR` count each (query, cited paper) pair, `R@10` each query; `seen` and `unseen` are
    hit@10 of papers that training cites and of others; `spearman` compares cosines with labels, one
    cited paper to 4.6 random ones, and is comparable with nothing but the first model's card.
    With `vectors` the candidates are not encoded: shape (candidates, dimension), unit rows, which the
    model's adapter moves if it has one.
    """

    def __init__(
        self,
        dev: DevSet,
        *,
        vectors: NDArray[Any] | None = None,
        drafted: Sequence[str] | None = None,
        batch: int = 32,
        bf16: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = "hit@10"
        self._dev = dev
        self._vectors = vectors
        self._drafted = drafted
        self._batch = batch
        self._bf16 = bf16
        self._seed = seed

    def __call__(  # type: ignore[override]
        self, model: "SentenceTransformer", output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """The measures of the model as it is."""
        training = model.training
        model.eval()
        device = model.device
        context = torch.autocast(device.type, torch.bfloat16) if self._bf16 else nullcontext()
        with torch.inference_mode(), context:
            if self._vectors is None:
                passages = self._encoded(model.encode_document, self._dev.passages).to(device)
            else:
                passages = adapted(model, torch.from_numpy(self._vectors).to(device))
            measures = self._measured(model, self._dev.queries, passages)
            if self._drafted is not None:
                with_draft = self._measured(model, self._drafted, passages)
                measures |= {f"draft {name}": value for name, value in with_draft.items()}
        model.train(training)
        return measures

    def _encoded(self, encode: Any, texts: Sequence[str]) -> torch.Tensor:
        vectors = encode(list(texts), batch_size=self._batch, show_progress_bar=False, convert_to_tensor=True)
        return normalize(vectors.float(), dim=1)

    def _measured(
        self, model: "SentenceTransformer", texts: Sequence[str], passages: torch.Tensor
    ) -> dict[str, float]:
        queries = self._encoded(model.encode_query, texts).to(passages.device)
        return measures(ranks(queries, passages, self._dev.golds), self._dev) | {
            "spearman": self._spearman(queries, passages)
        }

    def _spearman(self, queries: torch.Tensor, passages: torch.Tensor) -> float:
        from scipy.stats import spearmanr

        owners, rows = places(self._dev.golds)
        rng = np.random.default_rng([self._seed, 18])
        wrong = int(len(rows) * (1 / POSITIVE_SHARE - 1))
        owners = np.concatenate([owners, rng.integers(len(queries), size=wrong)])
        rows = np.concatenate([rows, rng.integers(len(passages), size=wrong)])
        labels = np.arange(len(rows)) < len(rows) - wrong
        cosines = (queries[owners] * passages[rows].float()).sum(1).float().cpu().numpy()
        return round(float(spearmanr(cosines, labels).statistic), 4)


def places(golds: Sequence[Rows]) -> tuple[Rows, Rows]:
    """The (query, candidate) places of the cited papers, flat."""
    return np.repeat(np.arange(len(golds)), [len(g) for g in golds]), np.concatenate(golds)


def ranks(queries: torch.Tensor, passages: torch.Tensor, golds: Sequence[Rows]) -> list[Rows]:
    """The rank, from 1, of each query's cited papers among all passages."""
    found: list[Rows] = []
    with torch.autocast(queries.device.type, enabled=False):
        passages = passages.float()
        for start in range(0, len(queries), BLOCK):
            scores = queries[start : start + BLOCK].float() @ passages.T
            for row, wanted in zip(scores, golds[start : start + BLOCK], strict=True):
                own = row[torch.from_numpy(wanted).to(row.device)]
                found.append((row[None, :] > own[:, None]).sum(1).cpu().numpy() + 1)
    return found


def measures(ranked: Sequence[Rows], dev: DevSet) -> dict[str, float]:
    """The means over cited papers and over queries of their ranks."""
    rank = np.concatenate(ranked)
    seen = np.concatenate(dev.seen)
    values = {f"hit@{k}": (rank <= k).mean() for k in CUTOFFS}
    values["MRR"] = (1 / rank).mean()
    values["R@10"] = np.mean([(r <= 10).mean() for r in ranked])
    for name, part in (("seen", rank[seen]), ("unseen", rank[~seen])):
        if len(part):
            values[name] = (part <= 10).mean()
    return {name: round(float(value), 4) for name, value in values.items()}
