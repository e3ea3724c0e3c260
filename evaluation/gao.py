"""How a score rises, and falls again, with distance from the start: the curves of Gao et al. 2022 (arXiv 2210.10760).

With d = √KL(policy ‖ SFT) and the gain R over the SFT model, their section 3.1 found

    best-of-n:  R(d) = d(α − β·d)          RL:  R(d) = d(α − β·log d)

for the gold score of a policy optimised against a proxy. Both are linear in (α, β) and pass through the origin, so the
fit is plain least squares without an intercept. Intervals: the posts are resampled and every curve is fitted anew to
the resampled means; the points of one curve share posts (and best-of-n's share samples), so the residuals' own standard
errors would be far too small. They say nothing of other training seeds. Left out: weights for points measured better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.statistics import LEVEL, RESAMPLES, SEED, Interval

Array = NDArray[np.float64]
Kind = Literal["rl", "best_of_n"]
FORMULAS: dict[Kind, str] = {"rl": "R(d) = d(α − β·log d)", "best_of_n": "R(d) = d(α − β·d)"}
FEWEST_POINTS = 3  # two would be met exactly by two coefficients
FARTHEST = 1_000.0  # nats: a peak beyond is none, for no policy that still writes text gets there


@dataclass(frozen=True)
class Peak:
    """Where a fitted curve is highest.

    Args:
        kl: in nats; an end of its interval is None where the resampled curves do not tell of one.
        gain: over the SFT model, there.
        measured: whether some point lies as far out; else the peak is extrapolated.
    """

    kl: Interval
    gain: float
    measured: bool


@dataclass(frozen=True)
class Fit:
    """A fitted curve; `peak` is None where it does not fall (β ≤ 0), or never rises (best-of-n with α ≤ 0)."""

    kind: Kind
    measure: str
    alpha: Interval
    beta: Interval
    formula: str
    points: int
    peak: Peak | None

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Refusal:
    """Why there is no fit."""

    kind: Kind
    measure: str
    why: str


def curve(kind: Kind, alpha: float, beta: float, distance: Array) -> Array:
    """R(d) at distances d ≥ 0, shape kept."""
    return design(kind, distance) @ np.array([alpha, beta])


def design(kind: Kind, distance: Array) -> Array:
    """What α and β are multiplied with: (..., 2) for distances of shape (...); 0 at d = 0."""
    d = np.asarray(distance, dtype=np.float64)
    falls = d * d if kind == "best_of_n" else d * np.log(np.where(d > 0, d, 1.0))
    return np.stack([d, -falls], axis=-1)


def peak_distance(kind: Kind, alpha: Array, beta: Array) -> Array:
    """d where R is highest; infinite where R only rises, 0 where it only falls.

    From R' = 0: α / (2β) for best-of-n, exp(α/β − 1) for RL.
    """
    alpha, beta = np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        highest = np.maximum(alpha / (2 * beta), 0) if kind == "best_of_n" else np.exp(alpha / beta - 1)
    return np.where(beta > 0, highest, np.inf)


def coefficients(kind: Kind, kl: Array, gain: Array) -> Array:
    """Least squares through the origin.

    Args:
        kl: (..., points) nats; below 0, as an estimate may be, counts as 0, where every curve passes through.
        gain: (..., points) over the SFT model.

    Returns: (..., 2), α and β.
    """
    return (np.linalg.pinv(_design_of_kl(kind, kl)) @ np.asarray(gain)[..., None])[..., 0]


def _design_of_kl(kind: Kind, kl: Array) -> Array:
    return design(kind, np.sqrt(np.maximum(kl, 0.0)))


def fit(kind: Kind, measure: str, kl: Array, gain: Array, resamples: int = RESAMPLES) -> Fit | Refusal:
    """Fit a curve to several policies measured on the same posts.

    Args:
        kl: (points, posts) nats: each post's estimate, or the same number for all posts where the KL is known.
        gain: (points, posts) over the SFT model on that post.
        resamples: of the posts, behind the intervals.
    """
    usable = kl.mean(axis=1) > 0
    kl, gain = kl[usable], gain[usable]
    if why := _why_not(kind, kl):
        return Refusal(kind, measure, why)
    values = coefficients(kind, kl.mean(axis=1), gain.mean(axis=1))
    drawn = _resampled(kind, kl, gain, resamples)
    alpha, beta = (_interval(value, column, kl.shape[1]) for value, column in zip(values, drawn, strict=True))
    return Fit(kind, measure, alpha, beta, FORMULAS[kind], len(kl), _peak(kind, values, drawn, kl))


def _why_not(kind: Kind, kl: Array) -> str:
    if len(kl) < FEWEST_POINTS:
        what = "checkpoints of PPO" if kind == "rl" else "sizes n above 1"
        return f"{len(kl)} {what} with a KL above 0, and two coefficients need {FEWEST_POINTS} or more"
    if np.linalg.matrix_rank(_design_of_kl(kind, kl.mean(axis=1)), rtol=1e-6) < 2:
        return f"the {len(kl)} points lie at the same KL, so that no curve can be told from another"
    return ""


def _resampled(kind: Kind, kl: Array, gain: Array, resamples: int) -> Array:
    """(2, resamples): α and β of each resample of the posts."""
    posts = kl.shape[1]
    if posts < 2:
        return np.empty((2, 0))
    # How often each post is drawn is all that a mean needs to know of a resample.
    counts = np.random.default_rng(SEED).multinomial(posts, np.full(posts, 1 / posts), size=resamples)
    return coefficients(kind, counts @ kl.T / posts, counts @ gain.T / posts).T


def _interval(value: float, drawn: Array, posts: int) -> Interval:
    """The estimate with the percentiles of its resamples; None for an end that is infinite, and for one post."""
    if not drawn.size:
        return Interval(float(value), None, None, posts)
    tail = (1 - LEVEL) / 2
    ends = np.quantile(drawn, [tail, 1 - tail], method="closest_observation")
    low, high = (float(end) if np.isfinite(end) else None for end in ends)
    return Interval(float(value), low, high, posts)


def _peak(kind: Kind, values: Array, drawn: Array, kl: Array) -> Peak | None:
    distance = peak_distance(kind, *values)
    where = _peak_kl(distance)
    if not 0 < where < np.inf:
        return None
    interval = _interval(float(where), _peak_kl(peak_distance(kind, *drawn)), kl.shape[1])
    gain = float(curve(kind, float(values[0]), float(values[1]), distance))
    return Peak(interval, gain, bool(where <= kl.mean(axis=1).max()))


def _peak_kl(distance: Array) -> Array:
    """d², infinite where that is beyond belief."""
    return np.where(distance < FARTHEST**0.5, np.minimum(distance, FARTHEST) ** 2, np.inf)
