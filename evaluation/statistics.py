"""How sure a mean is: 95% percentile bootstrap intervals over posts, drawn by scipy.stats.bootstrap from a fixed seed.

Percentile rather than BCa: at the hundreds of posts used here the mean is nearly free of skew, so the two agree, and
the percentile interval stays defined when every value is the same. The interval says how the mean would move with
other posts of this kind; it says nothing of other training seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

LEVEL = 0.95
RESAMPLES = 9_999
SEED = 0
# Resampled values held at once, so that thousands of posts do not need gigabytes.
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over n values and its confidence interval; low = high = None where n < 2 tells nothing of spread."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0


def mean_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean of n values with a percentile bootstrap interval.

    One value: no interval (None, None). All values equal: the interval is that value.

    Raises: ValueError for no values, or for a value that is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"need a flat, non-empty list of values, not shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError(f"{int((~np.isfinite(data)).sum())} of {data.size} values are not finite")
    mean = float(data.mean())
    if data.size == 1:
        return Interval(mean, None, None, 1)
    if np.ptp(data) == 0:
        return Interval(mean, mean, mean, data.size)
    result = bootstrap(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _VALUES_AT_ONCE // data.size),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Interval(mean, float(low), float(high), data.size)


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The mean of a[i] − b[i] over n posts that both were measured on; posts are resampled, not the two lists apart.

    Raises: ValueError when the lengths differ, and as `mean_interval`.
    """
    if len(a) != len(b):
        raise ValueError(f"paired lists differ in length: {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return mean_interval(differences.tolist(), level=level, resamples=resamples, seed=seed)
