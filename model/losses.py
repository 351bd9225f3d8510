"""Contrast: a query's own document against all others that are not known to be right answers too.

Two objectives, one rule: a document that any pair with the same query text cites, or that has the same
id or text as one of these, is never a negative of that query.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from model.adapter import adapted, adapter_of
from model.training_data import Examples, Rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Features = dict[str, Any]

EXCLUDED = -1e4  # the score of what is no candidate; finite, so that a query without negatives has no NaN


class MaskedContrast(CachedMultipleNegativesRankingLoss):
    """In-batch contrast with the false negatives left out.

    Input columns are query, passage and any number of negatives, encoded in mini-batches of texts of
    one length; a batch larger than `mini_batch_size` is encoded twice instead of being held in memory.
    Labels have shape (batch, 1 + passages): the number of the example, then the documents' rows.
    With `mask` false every other document of the batch is a negative, as in the loss it derives from.
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        examples: Examples,
        keys: Rows,
        *,
        scale: float = 20.0,
        mini_batch_size: int = 32,
        mask: bool = True,
    ) -> None:
        super().__init__(model, scale=scale, mini_batch_size=mini_batch_size)
        self._known = examples.known
        self._keys = keys
        self._mask = mask
        self._orders: list[Tensor] = []

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The mean loss of the batch's queries."""
        columns = [_by_length(features) for features in sentence_features]
        self._orders = [torch.argsort(order) for _, order in columns]
        sorted_columns = [features for features, _ in columns]
        if len(labels) <= self.mini_batch_size:
            encoded = [[self.model(features)["sentence_embedding"]] for features in sorted_columns]
            return self.calculate_loss(encoded, labels)
        return self.forward_cached(sorted_columns, labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of a batch whose columns are encoded; called by the gradient cache."""
        assert labels is not None
        queries, *passages = [
            normalize(torch.cat(parts).float(), dim=1)[order]
            for parts, order in zip(reps, self._orders, strict=True)
        ]
        scores = queries @ torch.cat(passages).T * self.scale
        own = scores.diagonal()
        excluded = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
        if self._mask:
            excluded |= self._right_answers(labels).to(scores.device)
        others = torch.logsumexp(scores.masked_fill(excluded, EXCLUDED), dim=1)
        loss = softplus(others - own).mean()  # = log(e^own + e^others) - own
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        return loss

    def _right_answers(self, labels: Tensor) -> Tensor:
        """Which documents of the batch, own positives first, are right answers of which query."""
        numbers = labels[:, 0].tolist()
        keys = self._keys[labels[:, 1:].T.reshape(-1).cpu().numpy()]
        columns: dict[int, list[int]] = {}
        for column, key in enumerate(keys.tolist()):
            columns.setdefault(key, []).append(column)
        right = torch.zeros(len(labels), len(keys), dtype=torch.bool)
        for query, number in enumerate(numbers):
            for key in self._known[number]:
                right[query, columns.get(key, [])] = True
        return right


class FrozenDocuments(nn.Module):
    """The query encoder against the vectors of all documents, which stay as they are.

    Only the query's text passes through the network: softmax over every document but the query's other
    right answers (ADORE, arXiv 2104.08051, with the whole corpus as negatives). `documents` has shape
    (documents, dimension) and unit rows; its precision is that of the scores. Labels have shape
    (batch, 1): the number of the example. The loss of a query is the mean over its answers.

    `prior` times the log of how often a document is cited in the examples is added to its score while
    training, and only then: what popularity explains need not go into the vectors, which would push
    down the papers that no example cites (logit adjustment, arXiv 2007.07314).
    """

    def __init__(
        self,
        model: "SentenceTransformer",
        examples: Examples,
        keys: Rows,
        documents: Tensor,
        *,
        scale: float = 20.0,
        mini_batch_size: int = 32,
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.scale = scale
        self.mini_batch_size = mini_batch_size
        self.register_buffer("documents", documents, persistent=False)
        cited = np.bincount(np.concatenate(examples.answers), minlength=len(documents))
        self.register_buffer("prior", prior * torch.from_numpy(cited).float().log1p(), persistent=False)
        self._answers = examples.answers
        self._known = examples.known
        self._rows_of = _rows_of_keys(keys)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor) -> Tensor:
        """The mean loss of the batch's queries."""
        features, order = _by_length(next(iter(sentence_features)))
        numbers = [int(number) for number in labels[:, 0][order.to(labels.device)].tolist()]
        queries = normalize(self._encode(features, len(numbers)).float(), dim=1)
        right_rows = [self._right_rows(number) for number in numbers]
        rows = self._candidates(queries.detach(), np.concatenate(right_rows))
        scores = self._scores(queries, rows)
        target_queries, targets = _flat([self._answers[n] for n in numbers], rows, scores.device)
        right = _flat(right_rows, rows, scores.device)
        others = torch.logsumexp(scores.index_put(right, scores.new_tensor(EXCLUDED)), dim=1)
        losses = softplus(others[target_queries] - scores[target_queries, targets])
        shares = 1 / torch.bincount(target_queries, minlength=len(numbers))
        return (losses * shares[target_queries]).sum() / len(numbers)

    def _candidates(self, queries: Tensor, right: Rows) -> Rows | None:
        """The documents that the batch is trained against, ascending; None stands for all."""
        return None

    def _scores(self, queries: Tensor, rows: Rows | None) -> Tensor:
        """Scaled cosines, shape (queries, candidates), with the documents' prior."""
        documents: Tensor = self.get_buffer("documents")
        return self._logits(queries, documents) + self.get_buffer("prior")

    def _logits(self, queries: Tensor, documents: Tensor) -> Tensor:
        return (queries.to(documents.dtype) @ documents.T).float() * self.scale

    def _encode(self, features: Features, count: int) -> Tensor:
        """The queries' vectors; short mini-batches of one length spare the padding."""
        parts = []
        for begin in range(0, count, self.mini_batch_size):
            part = _part(features, begin, begin + self.mini_batch_size)
            parts.append(self.model(part)["sentence_embedding"])
        return torch.cat(parts)

    def _right_rows(self, number: int) -> Rows:
        return np.concatenate([self._rows_of[key] for key in self._known[number]])


class AdaptedDocuments(FrozenDocuments):
    """The query encoder and the model's adapter of the documents' vectors, trained together.

    The adapter has to be run with gradients on every candidate, so a batch's candidates are its right
    answers, each query's NEAREST documents (by vectors that are at most REFRESH steps old) and RANDOM
    others.
    """

    NEAREST, RANDOM, REFRESH = 48, 6000, 20

    def __init__(self, model: "SentenceTransformer", *arguments: Any, **options: Any) -> None:
        super().__init__(model, *arguments, **options)
        self._steps = 0

    def refresh(self) -> None:
        """Let the next step take new vectors. After every checkpoint: a resumed training begins so too."""
        self._steps = 0

    def _candidates(self, queries: Tensor, right: Rows) -> Rows:
        documents: Tensor = self.get_buffer("documents")
        if self._steps % self.REFRESH == 0:
            self._moved = adapted(self.model, documents)
        self._steps += 1
        nearest = torch.topk(self._logits(queries, self._moved), min(self.NEAREST, len(documents)), dim=1)
        others = torch.randint(len(documents), (self.RANDOM,))
        return np.unique(np.concatenate([nearest.indices.flatten().cpu().numpy(), others.numpy(), right]))

    def _scores(self, queries: Tensor, rows: Rows | None) -> Tensor:
        documents, prior = self.get_buffer("documents"), self.get_buffer("prior")
        chosen = torch.from_numpy(rows).to(documents.device)
        adapter = adapter_of(self.model)
        assert adapter is not None
        return self._logits(queries, adapter.adapt(documents[chosen]).to(documents.dtype)) + prior[chosen]


def _by_length(features: Features) -> tuple[Features, Tensor]:
    """A column with its texts in order of length, and that order."""
    order = torch.argsort(features["attention_mask"].sum(1), stable=True)
    return {
        name: value[order] if isinstance(value, Tensor) else value for name, value in features.items()
    }, order


def _part(features: Features, begin: int, end: int) -> Features:
    """Some texts of a column, without the padding at the end that all of them share."""
    used = features["attention_mask"][begin:end].any(dim=0).nonzero()
    width = int(used.max()) + 1
    return {
        name: value[begin:end, :width] if isinstance(value, Tensor) else value
        for name, value in features.items()
    }


def _flat(rows: Sequence[Rows], candidates: Rows | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Lists of rows, one for each query, as places in the matrix of scores: (queries, columns)."""
    queries = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    columns = np.concatenate(rows)
    if candidates is not None:
        columns = np.searchsorted(candidates, columns)
    return torch.from_numpy(queries).to(device), torch.from_numpy(columns).to(device)


def _rows_of_keys(keys: Rows) -> dict[int, Rows]:
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
