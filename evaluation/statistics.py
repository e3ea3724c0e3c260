"""How sure a number is: bootstrap intervals, permutation p-values, Wilson intervals.

scipy does the statistics. Everything is over posts: it says how a number would move with other posts of
this kind, and nothing of other training seeds. Percentile rather than BCa intervals: at the hundreds of posts used here
a mean is nearly free of skew, so the two agree, and the percentile interval stays defined when every value is the same.
Left out: corrections for looking at many measures at once. This module imports no other one of `evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, monte_carlo_test, permutation_test

LEVEL = 0.95
RESAMPLES = 9_999
SEED = 0
# Drawn at once: what a core's cache holds, which makes the draws several times as fast as one large block.
_VALUES_AT_ONCE = 64_000

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class Difference(Interval):
    """A mean of paired differences, its interval, and the p-value of "the two do not differ"."""

    p: float


def mean_interval(
    values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean of n values with a percentile bootstrap interval; one column of `mean_intervals`."""
    return mean_intervals({"values": values}, level=level, resamples=resamples, seed=seed)["values"]


def mean_intervals(
    columns: Mapping[str, Sequence[float]], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Means of many measures of the same n posts, with percentile bootstrap intervals (Efron 1979).

    The posts are drawn once for all columns: twenty take little longer than one, and each gets the interval it would
    get alone. One value: no interval (None, None). All values equal: the interval is that value.

    Raises: ValueError for columns of different lengths or none, or for a value that is not finite.
    """
    data = {name: checked(values) for name, values in columns.items()}
    if len({values.size for values in data.values()}) > 1:
        raise ValueError(f"columns differ in length: { {name: values.size for name, values in data.items()} }")
    spread = {name: values for name, values in data.items() if np.ptp(values) > 0}
    bounds = dict(zip(spread, _percentiles(list(spread.values()), level, resamples, seed), strict=True))
    found = {}
    for name, values in data.items():
        mean = float(values.mean())
        low, high = bounds.get(name, (None, None) if values.size == 1 else (mean, mean))
        found[name] = Interval(mean, low, high, values.size)
    return found


def checked(values: Sequence[float]) -> Array:
    """The values as an array. Raises: ValueError for none, or one that is not finite."""
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"need a flat, non-empty list of values, not shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError(f"{int((~np.isfinite(data)).sum())} of {data.size} values are not finite")
    return data


def _percentiles(columns: Sequence[Array], level: float, resamples: int, seed: int) -> list[tuple[float, float]]:
    """(low, high) of each column's mean. What is resampled are the posts' indices, so that columns share the draws."""
    if not columns:
        return []
    matrix = np.stack(columns, axis=1)  # (posts, columns)
    posts = len(matrix)

    def means(drawn: NDArray[np.int64], axis: int) -> Array:
        rows = np.atleast_2d(drawn)
        cells = rows + posts * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.ravel(), minlength=rows.size).reshape(rows.shape)
        return (counts.astype(np.float64) @ matrix / posts).T.reshape(len(columns), *drawn.shape[:-1])

    result = bootstrap(
        (np.arange(posts),),
        means,
        n_resamples=resamples,
        batch=max(1, _VALUES_AT_ONCE // posts),
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return [(float(low), float(high)) for low, high in zip(*result.confidence_interval, strict=True)]


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
    return mean_interval(differences(a, b), level=level, resamples=resamples, seed=seed)


def differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a[i] − b[i], a column for `mean_intervals`. Raises: ValueError when the lengths differ."""
    if len(a) != len(b):
        raise ValueError(f"paired lists differ in length: {len(a)} and {len(b)}")
    return (np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).tolist()


def permutation_p(a: Sequence[float], b: Sequence[float], *, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Two-sided p-value of "a and b do not differ": how often swapping a[i] and b[i] at random makes |mean difference|
    at least as large as it is (Fisher's paired randomisation test).

    Exact where all 2^n swaps are no more than `resamples`; else by that many draws, (hits + 1) / (draws + 1) (Phipson
    and Smyth 2010), so never 0. Equal pairs change nothing and are left out; 1 when all are equal. The order of the
    posts, and which list is called a, do not matter.

    Raises: ValueError when the lengths differ, or for no values or one that is not finite.
    """
    gaps = checked(differences(a, b))
    gaps = gaps[gaps != 0]
    if gaps.size < 2:  # one pair is as far apart when it is swapped
        return 1.0
    # One fixed order and direction, so that the same draws meet the same gaps.
    gaps = gaps if math.fsum(gaps) >= 0 else -gaps
    gaps = gaps[np.lexsort((gaps, np.abs(gaps)))]
    sizes, signs = np.abs(gaps) / np.abs(gaps).max(), np.sign(gaps)
    rng = np.random.default_rng(seed)

    def distance(drawn: Array, axis: int) -> Any:
        # Rounded, so that swaps that are as far apart count as such however their sum was added up.
        return np.round(np.abs(drawn @ sizes), 9)

    # Not `alternative="two-sided"`: that doubles the smaller tail, which here is the same tail twice.
    options: dict[str, Any] = {"vectorized": True, "n_resamples": resamples, "alternative": "greater"}
    batch = max(1, _VALUES_AT_ONCE // gaps.size)
    if 2**gaps.size <= resamples:
        result = permutation_test((signs,), distance, permutation_type="samples", batch=batch, rng=rng, **options)
    else:
        # The same test; permutation_test itself takes twenty times as long to draw its swaps.
        def swaps(size: tuple[int, ...]) -> Any:
            return 2.0 * rng.integers(0, 2, size, dtype=np.int8) - 1.0

        result = monte_carlo_test(signs, swaps, distance, batch=batch, **options)
    return float(result.pvalue)


def compare(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """`paired_difference` and `permutation_p` in one. Raises: as both."""
    return compare_all({"value": a}, {"value": b}, level=level, resamples=resamples, seed=seed)["value"]


def compare_all(
    ours: Mapping[str, Sequence[float]],
    theirs: Mapping[str, Sequence[float]],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Difference]:
    """`compare` for every measure in both, in the order of `ours`, with the posts drawn once for all of them."""
    names = [name for name in ours if name in theirs]
    columns = {name: differences(ours[name], theirs[name]) for name in names}
    intervals = mean_intervals(columns, level=level, resamples=resamples, seed=seed)
    return {
        name: Difference(
            **asdict(intervals[name]), p=permutation_p(ours[name], theirs[name], resamples=resamples, seed=seed)
        )
        for name in names
    }


def proportion(hits: float, count: int, *, level: float = LEVEL) -> Interval:
    """The share hits / count with Wilson's interval (1927), which unlike a bootstrap has a width at 0 and at 1.

    A tie may count as half a hit.

    Raises: ValueError unless 0 <= hits <= count and count > 0.
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"{hits} of {count} is no share")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(hits, count, alpha=1 - level, method="wilson")
    return Interval(hits / count, float(low), float(high), int(count))
