"""How long things are: a few numbers and a histogram with round bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

BINS = 12


@dataclass(frozen=True)
class Bin:
    """`count` values v with low <= v < high; None is no bound on that side."""

    low: int | None
    high: int | None
    count: int


@dataclass(frozen=True)
class Spread:
    """Lengths of one part of the rows. p95: 95 % of the rows are that long or shorter."""

    count: int
    min: int
    median: float
    mean: float
    p95: int
    p99: int
    max: int
    bins: tuple[Bin, ...]


def spread(lengths: ArrayLike) -> Spread | None:
    """The numbers of a list of whole lengths (differences may be negative); None of an empty one."""
    values = np.asarray(lengths, dtype=np.int64)
    if not values.size:
        return None
    p95, p99 = np.percentile(values, (95, 99), method="inverted_cdf")
    return Spread(
        count=int(values.size),
        min=int(values.min()),
        median=float(np.median(values)),
        mean=float(values.mean()),
        p95=int(p95),
        p99=int(p99),
        max=int(values.max()),
        bins=_histogram(values),
    )


def _histogram(values: np.ndarray) -> tuple[Bin, ...]:
    """Up to `BINS` bins of one round width between the first and the 99th percentile.

    What lies outside is in the first and last bin, which then have no bound: a single row of ten times the usual
    length would otherwise leave all the others in one bin.
    """
    low, high = (int(value) for value in np.percentile(values, (1, 99), method="inverted_cdf"))
    width = _round_width((high - low + 1) / (BINS - 1))
    first = low // width * width
    edges = [first + width * number for number in range((high - first) // width + 2)]
    bounds: list[int | None] = [*edges]
    if values.min() < edges[0]:
        bounds[0] = None
    if values.max() >= edges[-1]:
        bounds[-1] = None
    counts = np.histogram(np.clip(values, edges[0], edges[-1] - 1), edges)[0]
    return tuple(Bin(bounds[i], bounds[i + 1], int(count)) for i, count in enumerate(counts))


def _round_width(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... that is not below `least`."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= least:
                return step * power
        power *= 10


def bar(count: int, most: int, width: int, block: str = "█") -> str:
    """A bar of `width` blocks for `most`; something is drawn for every count but 0."""
    return block * max(round(width * count / most), 1) if count else ""


def labels(bins: Sequence[Bin]) -> list[str]:
    """`"under 0"`, `"0-49"`, `"from 550"`, one for each bin; `"-50 to -1"` below 0."""
    return [_label(item) for item in bins]


def _label(item: Bin) -> str:
    if item.low is None:
        return "all" if item.high is None else f"under {item.high:,}"
    if item.high is None:
        return f"from {item.low:,}"
    if item.high - item.low == 1:
        return f"{item.low:,}"
    return f"{item.low:,}{' to ' if item.low < 0 else '-'}{item.high - 1:,}"
