"""Shares over pairs with intervals over posts: several pairs of one post stand and fall together."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from evaluation.statistics import Interval, mean_interval, proportion


def share_by_post(outcomes: Sequence[float], posts: Sequence[Hashable]) -> Interval:
    """The mean of the outcomes (1 right, 0.5 tie, 0 wrong) of n pairs, with an interval over posts.

    The mean over pairs is a ratio of two sums over posts; what is resampled is its linearisation
    (Cochran 1977, section 6.3): R + (s_i − R c_i) / mean(c), with s_i the sum and c_i the number of a post's outcomes.
    Where all outcomes are the same a bootstrap has no width, and the interval is Wilson's for as many posts. The
    linearisation of few posts of different sizes can leave [0, 1], where no share lies: ends are cut there.

    Args:
        posts: of each pair, what names its post.

    Raises: ValueError for no outcomes, or one that is not finite.
    """
    values = by_post(outcomes, posts)
    if set(outcomes) <= {0.0} or set(outcomes) <= {1.0}:
        interval = proportion(round(sum(values)), len(values))
    else:
        interval = mean_interval(values)
    low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (interval.low, interval.high))
    return dataclasses.replace(interval, low=low, high=high, n=len(outcomes))


def difference_by_post(ours: Sequence[float], theirs: Sequence[float], posts: Sequence[Hashable]) -> Interval:
    """The mean of ours[i] − theirs[i] over n pairs, with an interval over posts."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return dataclasses.replace(mean_interval(by_post(differences, posts)), n=len(differences))


def by_post(values: Sequence[float], posts: Sequence[Hashable]) -> list[float]:
    """One number a post, whose mean is that of the values; see `share_by_post`."""
    if not values:
        raise ValueError("no values")
    number = {post: index for index, post in enumerate(dict.fromkeys(posts))}
    where = [number[post] for post in posts]
    sums, counts = np.bincount(where, values), np.bincount(where)
    ratio = sums.sum() / counts.sum()
    return (ratio + (sums - ratio * counts) / counts.mean()).tolist()
