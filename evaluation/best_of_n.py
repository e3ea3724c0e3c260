"""Best-of-n without drawing n again and again: N samples a post give the expected score of every n up to N, exactly.

Best-of-n takes, of n responses to a post, the one that the proxy (the reward model) scores highest. Over all C(N, n)
subsets of the N samples in hand, the i-th of them in ascending order of the proxy is the best of C(i − 1, n − 1), so

    E[value of the best of n] = Σ_i C(i − 1, n − 1) / C(N, n) · value of the i-th

which is the unbiased estimator of Nakano et al. 2021 (WebGPT, arXiv 2112.09332), here with every subset used.
Ties: samples whose proxy is equal share the weights of their places equally, which is choosing among them at random.
Left out: n above N, of which the samples say nothing.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
EVERY_N_UP_TO = 16
# Above that, so many a doubling.
STEPS_A_DOUBLING = 4


def rank_weights(samples: int, n: int) -> Array:
    """P(the i-th of N samples, in ascending order, is the best of n): (N,), the worst first; sums to 1.

    Raises: ValueError unless 1 <= n <= samples.
    """
    if not 1 <= n <= samples:
        raise ValueError(f"the best of {n} cannot be told from {samples} samples")
    places = np.arange(samples, 1, -1)
    # C(i − 2, n − 1) = C(i − 1, n − 1) · (i − n) / (i − 1), from the top down: no large numbers on the way.
    falling = np.cumprod(np.maximum(places - n, 0) / (places - 1))
    return n / samples * np.concatenate([[1.0], falling])[::-1]


def choice_weights(proxy: ArrayLike, n: int) -> Array:
    """How likely each sample is the chosen one of best-of-n.

    Args:
        proxy: (P, N) scores to choose by, N samples of each of P posts.

    Returns: (P, N), each row sums to 1.
    Raises: ValueError for another shape, a score that is not a number, or n outside 1 ... N.
    """
    scores = np.asarray(proxy, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"need scores of shape (posts, samples), not {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are not a number")
    up_to = np.concatenate([[0.0], np.cumsum(rank_weights(scores.shape[1], n))])
    last = rankdata(scores, "max", axis=1).astype(int)
    before = rankdata(scores, "min", axis=1).astype(int) - 1
    return (up_to[last] - up_to[before]) / (last - before)


def expected_best(proxy: ArrayLike, values: ArrayLike, n: int) -> Array:
    """The value that best-of-n by the proxy is expected to get: (P,), one a post.

    Args:
        proxy: (P, N) scores to choose by. values: (P, N) of the same samples: the proxy itself or anything else.

    Raises: ValueError as `choice_weights`, and when the shapes differ.
    """
    wanted = np.asarray(values, dtype=np.float64)
    weights = choice_weights(proxy, n)
    if wanted.shape != weights.shape:
        raise ValueError(f"proxy and values have shapes {weights.shape} and {wanted.shape}")
    return (weights * wanted).sum(axis=1)


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n: KL(best-of-n ‖ what is sampled from) is at most this, in nats.

    Equal to it where no two responses tie; see Stiennon et al. 2020 (arXiv 2009.01325), and Beirami et al. 2024 (arXiv
    2401.01879) for why it is only a bound.
    """
    return math.log(n) - (n - 1) / n


def measured_ns(samples: int) -> list[int]:
    """Every n up to 16, then four a doubling, and N itself: enough to draw a curve by."""
    spaced = [round(2 ** (step / STEPS_A_DOUBLING)) for step in range(math.ceil(STEPS_A_DOUBLING * math.log2(samples)))]
    return sorted(
        {*range(1, min(samples, EVERY_N_UP_TO) + 1), *(n for n in spaced if EVERY_N_UP_TO < n < samples), samples}
    )
