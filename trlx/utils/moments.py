"""Mean and spread of a stream of scores (Chan et al. 1979, pairwise update)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class RunningMoments:
    """Moments of every score seen so far, on all ranks; update it with the scores of all ranks."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean

    @property
    def std(self) -> float:
        """The unbiased standard deviation; 1 before there are two scores, or when they are all equal."""
        spread = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0
        return spread if spread > 0 else 1.0

    def update(self, scores: Tensor) -> None:
        """Take in a batch of scores, of any shape."""
        batch = scores.double().flatten()
        if batch.numel() == 0:
            return
        total = self.count + batch.numel()
        mean = batch.mean().item()
        delta = mean - self.mean
        self.squares += (batch - mean).square().sum().item() + delta**2 * self.count * batch.numel() / total
        self.mean += delta * batch.numel() / total
        self.count = total
