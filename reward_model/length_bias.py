"""What length alone tells of a preference: baselines that a reward model must beat, and accuracy by length difference.

A reward model that has learnt only "longer is better" can agree with people more often than not, and a policy trained
against it learns to ramble (Singhal et al. 2023, arXiv 2310.03716). Lengths are counted in words, so that they do not
depend on a tokenizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
BUCKETS = 6


@dataclass(frozen=True)
class Bucket:
    """The pairs whose preferred side has from `low` to `high` words more than the other, both ends included."""

    low: int
    high: int
    right: list[float]


def words(text: str) -> int:
    """Words of a text, as white space parts them."""
    return len(text.split())


def longer_wins(chosen: Sequence[str], rejected: Sequence[str]) -> list[float]:
    """1 where the preferred side has more words, 0 where it has fewer, 0.5 where both have as many."""
    return [0.5 if words(c) == words(r) else float(words(c) > words(r)) for c, r in zip(chosen, rejected, strict=True)]


def length_only(chosen: Sequence[str], rejected: Sequence[str], posts: Sequence[Hashable]) -> list[float] | None:
    """What a logistic regression on the two lengths gets right, each pair predicted from other posts.

    Its features are the differences (preferred − other) of words and of log words, so that it may like long, short or
    middling summaries; it has no intercept, since which side is named first says nothing. Posts are dealt to five
    folds in the order they are met.

    Returns: 1, 0 or 0.5 (undecided) for each pair; None for fewer posts than folds.
    """
    order = {post: index for index, post in enumerate(dict.fromkeys(posts))}
    if len(order) < FOLDS:
        return None
    features = _features(chosen) - _features(rejected)
    fold = np.array([order[post] % FOLDS for post in posts])
    right = np.zeros(len(features))
    for held_out in range(FOLDS):
        weights = _fit(features[fold != held_out])
        right[fold == held_out] = 0.5 + 0.5 * np.sign(features[fold == held_out] @ weights)
    return right.tolist()


def _features(texts: Sequence[str]) -> NDArray[np.float64]:
    lengths = np.array([words(text) for text in texts], dtype=np.float64)
    return np.stack([lengths, np.log1p(lengths)], axis=1)


def _fit(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (2,) under which the preferred sides are likeliest; each pair counts from both ends, so that there are
    two classes."""
    import statsmodels.api as sm

    scale = differences.std(axis=0)
    scaled = differences / np.where(scale > 0, scale, 1.0)
    labels = np.repeat([1.0, 0.0], len(scaled))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where length alone tells all, any large weights will do
        fitted = sm.GLM(labels, np.concatenate([scaled, -scaled]), family=sm.families.Binomial()).fit()
    return np.nan_to_num(fitted.params / np.where(scale > 0, scale, 1.0))


def by_length_difference(chosen: Sequence[str], rejected: Sequence[str], right: Sequence[float]) -> list[Bucket]:
    """`right` by how many words more the preferred side has: up to six buckets of about as many pairs; equal
    differences stay together."""
    difference = np.array([words(c) - words(r) for c, r in zip(chosen, rejected, strict=True)])
    edges = np.unique(np.quantile(difference, np.linspace(0, 1, BUCKETS + 1)[1:-1], method="inverted_cdf"))
    where = np.searchsorted(edges, difference)
    hits = np.asarray(right)
    return [
        Bucket(int(difference[where == one].min()), int(difference[where == one].max()), hits[where == one].tolist())
        for one in np.unique(where)
    ]
