"""Which examples make a batch: sources drawn by weight, each without repetition until it is used up."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from model.training_data import Rows


class WeightedBatches(Sampler[list[int]]):
    """Batches of example numbers.

    Of an epoch's examples each source has its weight's share: a source with a large weight comes
    several times, one with a small weight in part, and goes on in the next epoch where it stopped. The
    order depends on the seed and the epoch alone, so a resumed training sees what an unbroken one saw.
    With `one_source` all examples of a batch come from one source, drawn by weight.
    """

    def __init__(
        self,
        source: Rows,
        weights: list[float],
        batch: int,
        seed: int,
        *,
        length: int | None = None,
        one_source: bool = False,
    ) -> None:
        self._members = [np.flatnonzero(source == number) for number in range(len(weights))]
        self._shares = np.array(weights) / sum(weights)
        self._length = length or len(source)
        self.batch_size = batch
        self._seed = seed
        self._one_source = one_source
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self._length // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self._seed, self.epoch])
        counts = np.diff(np.round(np.cumsum([0.0, *self._shares]) * self._length).astype(int))
        drawn = [self._draw(number, count) for number, count in enumerate(counts.tolist())]
        if self._one_source:
            batches = [
                part
                for rows in drawn
                for part in np.split(rows, range(self.batch_size, len(rows), self.batch_size))
                if len(part)
            ]
            for place in rng.permutation(len(batches)):
                yield batches[place].tolist()
        else:
            rows = rng.permutation(np.concatenate(drawn))
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size].tolist()

    def _draw(self, number: int, count: int) -> Rows:
        """The epoch's share of a source: the next `count` of its endless sequence of permutations."""
        members = self._members[number]
        start = self.epoch * count
        rounds = range(start // len(members), (start + count - 1) // len(members) + 1 if count else 0)
        sequence = [np.random.default_rng([self._seed, number, turn]).permutation(members) for turn in rounds]
        if not sequence:
            return members[:0]
        offset = start % len(members)
        return np.concatenate(sequence)[offset : offset + count]
