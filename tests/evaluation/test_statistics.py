"""Intervals: their edges, their coverage of the true mean, and pairing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from evaluation.statistics import Interval, mean_interval, mean_intervals, paired_difference, proportion


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


def test_many_columns_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(3)
    columns = {"a": rng.normal(size=30).tolist(), "same": [2.0] * 30, "b": rng.exponential(size=30).tolist()}
    together = mean_intervals(columns, resamples=500)
    assert list(together) == ["a", "same", "b"]
    assert together["same"] == Interval(2.0, 2.0, 2.0, 30)
    for name, values in columns.items():
        alone = mean_interval(values, resamples=500)
        assert (together[name].low, together[name].high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert mean_intervals({}) == {}
    with pytest.raises(ValueError, match=r"differ in length: {'a': 2, 'b': 1}"):
        mean_intervals({"a": [1.0, 2.0], "b": [1.0]})


def test_same_as_scipy_on_the_values_themselves() -> None:
    values = np.random.default_rng(4).normal(size=41)
    expected = bootstrap((values,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(7))
    found = mean_interval(values.tolist(), resamples=999, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_of_the_textbook(hits: int, count: int, low: float, high: float) -> None:
    share = proportion(hits, count)
    assert (share.mean, share.n) == (hits / count, count)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_at_its_edges() -> None:
    every = proportion(5, 5)
    assert every.high == 1.0
    assert every.low == pytest.approx(1 / (1 + 1.959964**2 / 5))  # n / (n + z²)
    one = proportion(1, 1)
    assert one.low == pytest.approx(1 / (1 + 1.959964**2))
    for hits, count in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="is no share"):
            proportion(hits, count)
