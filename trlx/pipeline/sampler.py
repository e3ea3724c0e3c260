"""Which rank sees which prompt when: one endless shuffled order, the same on every rank, that can be resumed."""

from __future__ import annotations

import torch


class PromptSampler:
    """Deals an endless sequence of indices, a fresh permutation each pass, to the ranks in turn.

    The order depends on the seed alone; rank r of W takes its consecutive indices after those of ranks 0 … r−1, so no
    prompt of a pass is dealt twice. The only state is `position`, the number of indices dealt to all ranks.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.position = 0
        self._passes: dict[int, list[int]] = {}

    def take(self, count: int) -> list[int]:
        """The next `count` indices of this rank; every rank must ask for the same count."""
        start = self.position + self.rank * count
        self.position += self.world_size * count
        return [self._index(place) for place in range(start, start + count)]

    def _index(self, place: int) -> int:
        number, offset = divmod(place, self.size)
        if number not in self._passes:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            order = torch.randperm(self.size, generator=generator).tolist()
            # Older passes are behind every rank once a new one has begun a whole pass ahead.
            self._passes = {n: o for n, o in self._passes.items() if n >= number - 2} | {number: order}
        return self._passes[number][offset]
