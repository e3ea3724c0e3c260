"""Mean and spread of a stream of scores (Chan et al. 1979, pairwise update)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class RunningMoments:
    """Moments of every score seen so far, on all ranks; update it with the scores of all ranks.

    `trlx.utils.modeling.RunningMoments` takes one rank's scores and adds the ranks up itself.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    @property
    def std(self) -> float:
        """The unbiased standard deviation; 1 before there are two scores, or when they are all equal."""
        spread = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0
        return spread if spread > 0 else 1.0

    @property
    def var(self) -> float:
        """The population variance; 1 before there is a score."""
        return self.squares / self.count if self.count else 1.0

    def update(self, scores: Tensor) -> None:
        """Take in a batch of scores, of any shape."""
        batch = scores.double().flatten()
        if batch.numel():
            mean = batch.mean()
            self.merge(batch.numel(), mean.item(), (batch - mean).square().sum().item())

    def merge(self, count: int, mean: float, squares: float) -> None:
        """Take in `count` ≥ 1 scores by their mean and their sum of squared distances from it."""
        total = self.count + count
        delta = mean - self.mean
        self.squares += squares + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total
