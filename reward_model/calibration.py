"""Whether a reward model is as right as it is sure: calibration curve and expected calibration error.

A score difference d says that the higher side is preferred with probability σ(|d|) (Bradley and Terry 1952). That
confidence lies between 0.5 and 1 and is held against how often the label agrees (Stiennon et al. 2020, appendix; Guo et
al. 2017 for the error). Left out: mending it by a temperature; PPO's reward is scaled anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Pairs whose confidence lies from `low` up to, but not including, `high`; the last bin includes 1."""

    low: float
    high: float
    confidence: float  # mean of its pairs
    accuracy: float  # share of its pairs on which the label agrees; a tie counts half
    pairs: int


@dataclass(frozen=True)
class Calibration:
    """The curve (bins that hold no pair are left out) and the error, Σ pairs/N · |accuracy − confidence|."""

    ece: float
    bins: list[Bin]


def calibrate(chosen: Sequence[float], rejected: Sequence[float], bins: int = BINS) -> Calibration:
    """Calibration on N pairs.

    Args:
        chosen, rejected: scores of the preferred side and of the other.
        bins: of equal width from 0.5 to 1.

    Raises: ValueError for no pairs.
    """
    if not len(chosen):
        raise ValueError("no pairs")
    difference = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected, dtype=np.float64)
    confidence = expit(np.abs(difference))
    right = np.where(difference == 0, 0.5, difference > 0)
    edges = np.linspace(0.5, 1, bins + 1).round(12)  # 0.85, not 0.8500000000000001
    where = np.minimum(np.digitize(confidence, edges) - 1, bins - 1)
    found = [
        Bin(
            float(edges[index]),
            float(edges[index + 1]),
            float(confidence[where == index].mean()),
            float(right[where == index].mean()),
            int((where == index).sum()),
        )
        for index in np.unique(where)
    ]
    ece = sum(one.pairs * abs(one.accuracy - one.confidence) for one in found) / len(difference)
    return Calibration(float(ece), found)
