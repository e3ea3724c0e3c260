"""Permutation p-values: counted by hand, scipy's own test, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from evaluation.statistics import Difference, compare, compare_all, paired_difference, permutation_p

DIFFERENCES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=24)


def p_of(differences: list[float], **kwargs: int) -> float:
    return permutation_p(differences, [0.0] * len(differences), **kwargs)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only all one way is as far from 0
        # Sums by size: 6, 4, 2, 0, each twice; the one seen is 2.
        ([3.0, 1.0, -2.0], 6 / 8),
        # With +5: 8, 6, 6, 6, 4, 4, 4, 2; the one seen is 6, and each has its mirror image.
        ([5.0, 1.0, 1.0, -1.0], 4 / 8),
        ([1.0] * 5, 2 / 32),
        ([0.1, 0.2, -0.3], 1.0),  # 0 but for rounding
        ([7.0], 1.0),
        ([0.0, 0.0], 1.0),
        # Pairs that are equal change nothing, however many.
        ([1.0, 2.0, 3.0, *[0.0] * 50], 2 / 8),
    ],
)
def test_counted_by_hand(differences: list[float], expected: float) -> None:
    assert p_of(differences) == expected


def test_drawn_when_there_are_too_many_to_count() -> None:
    # 15 of 20 equal steps go up: the sign test's p, 2 · P(Binomial(20, ½) ≥ 15) = 2 · 21700 / 2^20.
    exact = 2 * 21_700 / 2**20
    for seed in range(3):
        found = p_of([1.0] * 15 + [-1.0] * 5, seed=seed)
        assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 9_999))
    # All 1,000 go up: no draw gets there, and p is still not 0.
    assert p_of([0.5] * 1000) == 1 / 10_000


def test_equal_distances_count_however_they_were_added_up() -> None:
    # Steps of 0.1, 300 of them, 10 more up than down: many draws have exactly this sum but for rounding.
    differences = [0.1] * 155 + [-0.1] * 145
    tail = sum(math.comb(300, k) for k in range(155, 301)) / 2**300
    assert p_of(differences) == pytest.approx(2 * tail, abs=0.02)
    assert p_of([10 * d for d in differences]) == p_of(differences)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-3, 10) | st.floats(-10, -1e-3), min_size=2, max_size=9))
def test_same_as_scipy_where_all_are_counted(values: list[float]) -> None:
    assume(abs(sum(values)) > 1e-3)
    data = np.asarray(values)
    expected = permutation_test((data,), lambda x: abs(np.mean(x)), permutation_type="samples", alternative="greater")
    assert p_of(values) == pytest.approx(expected.pvalue)


@settings(max_examples=60, deadline=None)
@given(
    DIFFERENCES, st.randoms(use_true_random=False), st.lists(st.integers(-3, 3).map(float), min_size=24, max_size=24)
)
def test_neither_direction_nor_order_matters(differences: list[float], random: object, base: list[float]) -> None:
    base = base[: len(differences)]
    ours = [one + by for one, by in zip(base, differences, strict=True)]
    found = permutation_p(ours, base, resamples=199)
    assert 0 < found <= 1
    assert permutation_p(base, ours, resamples=199) == found
    order = list(range(len(ours)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert permutation_p([ours[i] for i in order], [base[i] for i in order], resamples=199) == found


def test_chance_alone_gives_small_values_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(5)
    values = [p_of(rng.normal(size=15).tolist(), resamples=199) for _ in range(300)]
    assert 4 <= sum(value <= 0.05 for value in values) <= 29  # binomial(300, 0.05) within four deviations


def test_compare_is_both_in_one() -> None:
    rng = np.random.default_rng(6)
    ours = {"x": rng.normal(1, 1, 12).tolist(), "only ours": [1.0] * 12, "y": rng.normal(0, 1, 12).tolist()}
    theirs = {"y": rng.normal(0, 1, 12).tolist(), "x": rng.normal(0, 1, 12).tolist()}
    both = compare_all(ours, theirs, resamples=300)
    assert list(both) == ["x", "y"]
    for name, found in both.items():
        interval = paired_difference(ours[name], theirs[name], resamples=300)
        assert (found.mean, found.n) == (interval.mean, interval.n)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
        assert found.p == permutation_p(ours[name], theirs[name], resamples=300)
        alone = compare(ours[name], theirs[name], resamples=300)
        assert (alone.low, alone.p) == (pytest.approx(found.low, abs=1e-12), found.p)
    assert compare([3.0], [1.0]) == Difference(2.0, None, None, 1, p=1.0)
    assert compare([1.0, 2.0], [1.0, 2.0]) == Difference(0.0, 0.0, 0.0, 2, p=1.0)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan, 1.0], [1.0, 1.0])])
def test_refuses(a: list[float], b: list[float]) -> None:
    for call in (permutation_p, compare):
        with pytest.raises(ValueError, match=r"differ in length|non-empty|not finite"):
            call(a, b)
