"""Intervals: their edges, their coverage of the true mean, and pairing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.statistics import Interval, mean_interval, paired_difference


def test_mean_and_normal_width() -> None:
    # 100 values 0..99: standard error of the mean = sqrt((100² − 1) / 12 / 100) = 2.8866, so ±1.96 of it is ±5.66.
    interval = mean_interval(list(range(100)))
    assert interval.mean == 49.5
    assert interval.n == 100
    assert interval.low == pytest.approx(49.5 - 5.66, abs=0.25)
    assert interval.high == pytest.approx(49.5 + 5.66, abs=0.25)


def test_two_values_span_both() -> None:
    # A resample of {0, 1} is (0,0), (0,1), (1,0) or (1,1): a quarter of the means lie at either end.
    assert mean_interval([0.0, 1.0]) == Interval(0.5, 0.0, 1.0, 2)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([3.0]) == Interval(3.0, None, None, 1)
    assert not mean_interval([3.0]).above_zero


def test_equal_values() -> None:
    assert mean_interval([2.0] * 5) == Interval(2.0, 2.0, 2.0, 5)
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == Interval(0.0, 0.0, 0.0, 2)
    assert not paired_difference([1.0, 2.0], [1.0, 2.0]).above_zero


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_refuses(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"non-empty|not finite"):
        mean_interval(values)
    with pytest.raises(ValueError, match="differ in length"):
        paired_difference([1.0], [1.0, 2.0])


def test_pairing_sees_what_two_means_do_not() -> None:
    # Posts differ by hundreds, b is always about one better: only pairing shows it.
    rng = np.random.default_rng(0)
    b = rng.normal(0, 100, 50)
    a = b + rng.normal(1, 0.5, 50)
    difference = paired_difference(a.tolist(), b.tolist())
    assert difference.above_zero
    assert difference.mean == pytest.approx(1, abs=0.3)
    assert mean_interval(a.tolist()).low < mean_interval(b.tolist()).high  # type: ignore[operator]
    assert not paired_difference(b.tolist(), a.tolist()).above_zero


def test_seed_fixes_the_interval_and_more_values_than_fit_at_once_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=60).tolist()
    first = mean_interval(values, resamples=2000)
    assert mean_interval(values, resamples=2000) == first
    assert mean_interval(values, resamples=2000, seed=1) != first
    monkeypatch.setattr("evaluation.statistics._VALUES_AT_ONCE", 500)
    assert mean_interval(values, resamples=2000) == first


def test_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        interval = mean_interval(rng.exponential(1.0, 80).tolist(), resamples=400)
        hits += interval.low <= 1.0 <= interval.high  # type: ignore[operator]
    assert 178 <= hits <= 198  # binomial(200, 0.94) within three deviations


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), st.floats(-1e3, 1e3))
def test_shift_moves_the_interval_along(values: list[float], shift: float) -> None:
    base = mean_interval(values, resamples=200)
    moved = mean_interval([value + shift for value in values], resamples=200)
    assert base.low is not None
    assert base.high is not None
    assert base.low - 1e-6 <= base.mean <= base.high + 1e-6 or len(values) < 5
    assert moved.low == pytest.approx(base.low + shift, abs=1e-6, rel=1e-6)
    assert moved.high == pytest.approx(base.high + shift, abs=1e-6, rel=1e-6)
