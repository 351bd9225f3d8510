"""Fits the ranker of model/ranker.py on lists of candidates.

Some networks are fitted for each fold of the citing papers, on the other folds. What they say of their own
fold is honest, and so the probabilities are set right there; the ranker that comes out is the mean of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu, log_softmax

from model.ranker import SHOWN, Floats, Ranker, calibrated, softmax

FOLDS, HIDDEN, EPOCHS, BATCH, RATE, DECAY = 5, 32, 8, 64, 1e-2, 0.1
EACH = 3  # networks a fold: the mean of many is better than the one by which probabilities would be set
FAR = -1e9  # the score of what is no candidate

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Example:
    """One list: its candidates' features, shape (candidates, F), which of them are `right`, if any, the
    citing paper (lists of one paper stay in one fold), and what the list counts.

    Only the `natural` ones set the probabilities: the others teach what the data have too little of.
    """

    features: Floats
    right: NDArray[np.bool_]
    citing_id: str
    weight: float = 1.0
    natural: bool = True


class _Network(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=False)
        self.hidden = nn.Linear(features, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1, bias=False)
        self.null = nn.Linear(features, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, best: Tensor, there: Tensor) -> Tensor:
        """Scores of the candidates and of none of them, shape (lists, longest + 1).

        `x` has the candidates of all lists one after the other, shape (candidates, F), `best` the greatest
        of each feature in each list, (lists, F), and `there` is (lists, longest): whether a list is so long.
        """
        each = self.linear(x) + self.out(gelu(self.hidden(x), approximate="tanh"))
        scores = x.new_full(there.shape, FAR).masked_scatter(there, each)
        return torch.cat([scores, self.null(best)], dim=1)


@dataclass(frozen=True)
class _Lists:
    """Lists, standardized as the network takes them (see its `forward`), what is `wanted` of it, shape
    (lists, longest + 1), and what each list counts, (lists,)."""

    x: Tensor
    best: Tensor
    there: Tensor
    wanted: Tensor
    weights: Tensor


def _joined(examples: Sequence[Example], mean: Floats, spread: Floats) -> _Lists:
    sizes = torch.tensor([len(example.right) for example in examples])
    there = torch.arange(int(sizes.max())) < sizes[:, None]
    x = torch.from_numpy(np.concatenate([example.features for example in examples]))
    x = x.sub_(torch.from_numpy(mean)).div_(torch.from_numpy(spread))
    best = torch.stack([part.amax(dim=0) for part in torch.split(x, sizes.tolist())])
    right = torch.from_numpy(np.concatenate([example.right for example in examples])).float()
    cited = torch.zeros(there.shape).masked_scatter(there, right)
    wanted = torch.cat([cited, (cited.sum(1, keepdim=True) == 0).float()], dim=1)
    weights = torch.tensor([example.weight for example in examples])
    return _Lists(x, best, there, wanted / wanted.sum(1, keepdim=True), weights)


def fit(
    examples: Sequence[Example],
    names: tuple[str, ...],
    encoder: str,
    progress: Progress,
    seed: int = 0,
) -> tuple[Ranker, list[Floats]]:
    """The ranker, and for each example the probabilities that it had from the networks that never saw it.

    Those have the shape (candidates,). The threshold of the ranker is 0: see indexer/fit.py.
    """
    mean, spread = _moments(examples)
    fold = np.array([crc32(e.citing_id.encode()) % FOLDS for e in examples])
    networks: list[_Network] = []
    scores = [np.zeros(0, np.float32)] * len(examples)
    for number in range(FOLDS):
        lists = [examples[place] for place in np.flatnonzero(fold != number).tolist()]
        for again in range(EACH):
            progress("fitting", len(networks), FOLDS * EACH, " networks")
            networks.append(_fitted(lists, mean, spread, seed + number + again * FOLDS))
        with torch.no_grad():
            for place in np.flatnonzero(fold == number).tolist():
                one = _joined(examples[place : place + 1], mean, spread)
                each = [network(one.x, one.best, one.there)[0].numpy() for network in networks[-EACH:]]
                scores[place] = np.asarray(np.mean(each, axis=0), np.float32)
    progress("fitting", len(networks), FOLDS * EACH, " networks")
    shares = [softmax(s)[:-1] for s in scores]
    slope, shift = _curve(shares, examples)
    state = [{name: p.detach().numpy() for name, p in network.named_parameters()} for network in networks]

    def averaged(name: str) -> Floats:
        return np.asarray(np.mean([s[name] for s in state], axis=0).ravel(), np.float32)

    def joined(name: str) -> Floats:
        return np.asarray(np.concatenate([s[name] for s in state], axis=-1 if name == "out.weight" else 0))

    ranker = Ranker(
        features=names,
        encoder=encoder,
        threshold=0.0,
        mean=mean,
        spread=spread,
        hidden=np.ascontiguousarray(joined("hidden.weight").T),
        bias=joined("hidden.bias"),
        out=np.asarray(joined("out.weight").ravel() / len(networks), np.float32),
        linear=averaged("linear.weight"),
        null=averaged("null.weight"),
        null_bias=averaged("null.bias"),
        slope=np.array([slope], np.float32),
        shift=np.array([shift], np.float32),
    )
    return ranker, [calibrated(share, slope, shift) for share in shares]


def _moments(examples: Sequence[Example]) -> tuple[Floats, Floats]:
    """The mean and the standard deviation of each feature over all candidates, each of shape (F,)."""
    count = sum(len(example.right) for example in examples)
    mean = sum(example.features.sum(axis=0, dtype=np.float64) for example in examples) / count
    square = sum(((example.features - mean) ** 2).sum(axis=0) for example in examples) / count
    return np.asarray(mean, np.float32), np.asarray(np.sqrt(square) + 1e-6, np.float32)


def _fitted(lists: Sequence[Example], mean: Floats, spread: Floats, seed: int) -> _Network:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = _Network(len(mean))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(lists) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = random.permutation(len(lists))
        for start in range(0, len(lists), BATCH):
            batch = _joined([lists[place] for place in order[start : start + BATCH]], mean, spread)
            told = log_softmax(network(batch.x, batch.best, batch.there), dim=1)
            told = told.masked_fill(batch.wanted == 0, 0.0)
            loss = -((told * batch.wanted).sum(1) * batch.weights).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def _curve(shares: Sequence[Floats], examples: Sequence[Example]) -> tuple[float, float]:
    """The slope and the shift of the greatest likelihood, over the best SHOWN of the natural lists."""
    best = [np.argsort(-share, kind="stable")[:SHOWN] for share in shares]
    natural = [n for n, example in enumerate(examples) if example.natural]
    told = (
        torch.from_numpy(np.concatenate([shares[n][best[n]] for n in natural])).double().clamp(1e-9, 1 - 1e-7)
    )
    right = torch.from_numpy(np.concatenate([examples[n].right[best[n]] for n in natural])).double()
    curve = torch.tensor([1.0, 0.0], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([curve], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(curve[0] * torch.logit(told) + curve[1], right)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, shift = curve.detach().tolist()
    return slope, shift
