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
from torch.nn.utils.rnn import pad_sequence

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

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Scores of the candidates and of none of them: (lists, candidates, F) to (lists, candidates + 1)."""
        scores = self.linear(x) + self.out(gelu(self.hidden(x), approximate="tanh"))
        best = x.masked_fill(~there[..., None], FAR).amax(1)
        return torch.cat([scores.squeeze(-1).masked_fill(~there, FAR), self.null(best)], dim=1)


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
    every = np.concatenate([example.features for example in examples])
    mean, spread = every.mean(axis=0), every.std(axis=0) + 1e-6
    inputs = [torch.from_numpy((e.features - mean) / spread) for e in examples]
    fold = np.array([crc32(e.citing_id.encode()) % FOLDS for e in examples])
    networks: list[_Network] = []
    scores = [np.zeros(0, np.float32)] * len(examples)
    for number in range(FOLDS):
        lists = [(inputs[i], examples[i]) for i in np.flatnonzero(fold != number).tolist()]
        for again in range(EACH):
            progress("fitting", len(networks), FOLDS * EACH, " networks")
            networks.append(_fitted(lists, seed + number + again * FOLDS))
        with torch.no_grad():
            for place in np.flatnonzero(fold == number).tolist():
                x = inputs[place][None]
                there = torch.ones(x.shape[:2], dtype=torch.bool)
                each = [network(x, there)[0].numpy() for network in networks[-EACH:]]
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
        mean=mean.astype(np.float32),
        spread=spread.astype(np.float32),
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


def _fitted(lists: Sequence[tuple[Tensor, Example]], seed: int) -> _Network:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = _Network(lists[0][0].shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(lists) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = random.permutation(len(lists))
        for start in range(0, len(lists), BATCH):
            batch = [lists[place] for place in order[start : start + BATCH]]
            x = pad_sequence([features for features, _ in batch], batch_first=True)
            sizes = torch.tensor([len(features) for features, _ in batch])
            there = torch.arange(x.shape[1]) < sizes[:, None]
            wanted = torch.zeros(len(batch), x.shape[1] + 1)
            for number, (_, example) in enumerate(batch):
                wanted[number, : len(example.right)] = torch.from_numpy(example.right).float()
                wanted[number, -1] = float(not example.right.any())
            wanted /= wanted.sum(1, keepdim=True)
            told = log_softmax(network(x, there), dim=1).masked_fill(wanted == 0, 0.0)
            weights = torch.tensor([example.weight for _, example in batch])
            loss = -((told * wanted).sum(1) * weights).mean()
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
