"""The fitted curves: planted coefficients come back, peaks lie where calculus puts them, and too little is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from evaluation.gao import Fit, Kind, Refusal, coefficients, curve, fit, peak_distance
from evaluation.statistics import Interval

KINDS: list[Kind] = ["rl", "best_of_n"]
KL = np.array([0.25, 1.0, 4.0, 9.0, 16.0])


def posts(means: np.ndarray, spread: float, count: int = 200, seed: int = 0) -> np.ndarray:
    """(points, posts) numbers with exactly these means."""
    noise = np.random.default_rng(seed).normal(scale=spread, size=(len(means), count))
    return means[:, None] + noise - noise.mean(axis=1, keepdims=True)


def test_curves_by_hand() -> None:
    # At d = 2: best-of-n 2·(3 − 0.5·2) = 4; RL 2·(3 − 0.5·log 2).
    assert curve("best_of_n", 3, 0.5, np.array([0.0, 2.0])) == pytest.approx([0, 4])
    assert curve("rl", 3, 0.5, np.array([0.0, 2.0])) == pytest.approx([0, 6 - math.log(2)])


@pytest.mark.parametrize("kind", KINDS)
def test_planted_coefficients_come_back(kind: Kind) -> None:
    gain = curve(kind, 1.5, 0.2, np.sqrt(KL))
    found = fit(kind, "gold", posts(KL, 0.5), posts(gain, 0.5, seed=1), resamples=500)
    assert isinstance(found, Fit)
    assert (found.alpha.mean, found.beta.mean) == pytest.approx((1.5, 0.2))
    for interval, planted in ((found.alpha, 1.5), (found.beta, 0.2)):
        assert interval.low is not None and interval.high is not None
        assert interval.low < planted < interval.high
        assert interval.high - interval.low < 0.5
    assert found.points == 5 and found.measure == "gold"


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_what_they_should(kind: Kind) -> None:
    """Posts that differ: the interval of α covers the planted one about as often as it says."""
    covered = 0
    rng = np.random.default_rng(5)
    gain = curve(kind, 1.0, 0.1, np.sqrt(KL))
    for _ in range(60):
        # A post that gains more does so at every point: the points are far from independent.
        values = gain[:, None] * rng.normal(1, 0.5, size=(1, 100)) + rng.normal(scale=0.2, size=(5, 100))
        found = fit(kind, "gold", np.tile(KL[:, None], (1, 100)), values, resamples=300)
        assert isinstance(found, Fit) and found.alpha.low is not None and found.alpha.high is not None
        covered += found.alpha.low < 1.0 < found.alpha.high
    assert 51 <= covered <= 60  # 95% of 60 is 57, ± 3.6 standard deviations


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_agrees_with_statsmodels(kind: Kind) -> None:
    gain = np.random.default_rng(2).normal(size=5)
    d = np.sqrt(KL)
    columns = np.stack([d, -d * d if kind == "best_of_n" else -d * np.log(d)], axis=1)
    assert coefficients(kind, KL, gain) == pytest.approx(sm.OLS(gain, columns).fit().params)


def test_peaks_by_hand() -> None:
    assert peak_distance("best_of_n", np.array(2.0), np.array(0.5)) == pytest.approx(2.0)  # α / (2β)
    assert peak_distance("rl", np.array(1.0), np.array(0.5)) == pytest.approx(math.e)  # exp(α/β − 1)
    assert peak_distance("rl", np.array(1.0), np.array(-0.5)) == math.inf
    assert peak_distance("best_of_n", np.array(-1.0), np.array(0.5)) == 0
    assert peak_distance("rl", np.array(1.0), np.array(1e-6)) == math.inf  # beyond what can be written


@pytest.mark.parametrize("kind", KINDS)
def test_the_peak_is_the_highest_place_of_the_curve(kind: Kind) -> None:
    gain = curve(kind, 1.5, 0.5, np.sqrt(KL))
    found = fit(kind, "gold", posts(KL, 0.0), posts(gain, 0.0), resamples=50)
    assert isinstance(found, Fit) and found.peak is not None
    d = np.linspace(0.01, 20, 200_001)
    heights = curve(kind, 1.5, 0.5, d)
    assert found.peak.kl.mean == pytest.approx(d[heights.argmax()] ** 2, rel=1e-3)
    assert found.peak.gain == pytest.approx(heights.max())
    # 1.5² = 2.25 and (e²)² = 54.6 nats; the points end at 16.
    assert found.peak.measured == (kind == "best_of_n")


def test_a_curve_that_only_rises_has_no_peak() -> None:
    found = fit("best_of_n", "reward", posts(KL, 0.1), posts(curve("best_of_n", 1, -0.1, np.sqrt(KL)), 0.1), 50)
    assert isinstance(found, Fit) and found.peak is None


def test_a_peak_without_an_end_has_half_an_interval() -> None:
    """β is not told from 0: some resampled curves never fall, or only where nothing ever was."""
    found = fit("rl", "gold", posts(KL, 0.1), posts(curve("rl", 1.0, 0.4, np.sqrt(KL)), 8.0), resamples=500)
    assert isinstance(found, Fit) and found.peak is not None
    assert found.beta.low is not None and found.beta.low < 0
    assert found.peak.kl.mean == pytest.approx(math.exp(3))  # exp(1/0.4 − 1)²
    assert found.peak.kl.low is not None and found.peak.kl.low < math.exp(3) and found.peak.kl.high is None


def test_a_peak_beyond_belief_is_none() -> None:
    found = fit("rl", "gold", posts(KL, 0.1), posts(curve("rl", 1.0, 0.2, np.sqrt(KL)), 0.1), resamples=50)
    assert isinstance(found, Fit) and found.beta.mean > 0
    assert found.peak is None  # exp(1/0.2 − 1)² = 2,981 nats


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_is_refused_with_a_reason(kind: Kind) -> None:
    two = fit(kind, "gold", posts(KL[:2], 0), posts(KL[:2], 0), 50)
    assert isinstance(two, Refusal) and two.why.startswith("2 ") and "need 3 or more" in two.why
    none = fit(kind, "gold", np.empty((0, 4)), np.empty((0, 4)), 50)
    assert isinstance(none, Refusal) and none.why.startswith("0 ")
    at_zero = fit(kind, "gold", posts(np.array([0.0, 0.0, 1.0, 2.0]), 0), posts(KL[:4], 0), 50)
    assert isinstance(at_zero, Refusal) and at_zero.why.startswith("2 ")
    same = fit(kind, "gold", posts(np.full(4, 2.0), 0), posts(KL[:4], 0), 50)
    assert isinstance(same, Refusal) and "same KL" in same.why


def test_one_post_has_no_interval() -> None:
    found = fit("rl", "gold", KL[:, None], curve("rl", 1, 0.5, np.sqrt(KL))[:, None], 50)
    assert isinstance(found, Fit)
    assert found.alpha == Interval(pytest.approx(1.0), None, None, 1)
    assert found.to_json()["beta"] == {"mean": pytest.approx(0.5), "low": None, "high": None, "n": 1}
