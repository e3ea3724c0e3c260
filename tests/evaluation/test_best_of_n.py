"""Best-of-n against every subset there is, against drawing, and against values worked by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.best_of_n import choice_weights, expected_best, kl_bound, measured_ns, rank_weights


def by_enumeration(proxy: list[float], values: list[float], n: int) -> float:
    """The mean over all subsets of size n; among equally good ones each is chosen as often."""
    means = []
    for subset in combinations(range(len(proxy)), n):
        best = max(proxy[i] for i in subset)
        means.append(np.mean([values[i] for i in subset if proxy[i] == best]))
    return float(np.mean(means))


@given(st.data())
def test_equals_the_mean_over_all_subsets(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    # Few distinct values, so that ties are common.
    proxy = data.draw(st.lists(st.integers(-2, 2).map(float), min_size=count, max_size=count))
    values = data.draw(st.lists(st.floats(-5, 5), min_size=count, max_size=count))
    for n in range(1, count + 1):
        assert expected_best([proxy], [values], n)[0] == pytest.approx(by_enumeration(proxy, values, n), abs=1e-9)


def test_worked_by_hand() -> None:
    # Of {1, 2, 3} the pairs are {1,2}, {1,3}, {2,3}: the best are 2, 3, 3.
    assert rank_weights(3, 2) == pytest.approx([0, 1 / 3, 2 / 3])
    assert expected_best([[3.0, 1.0, 2.0]], [[3.0, 1.0, 2.0]], 2)[0] == pytest.approx(8 / 3)
    # Chosen by a proxy that puts them the other way round: the values got are 2, 1, 1.
    assert expected_best([[3.0, 1.0, 2.0]], [[1.0, 3.0, 2.0]], 2)[0] == pytest.approx(4 / 3)
    # Two share the top: each is taken half of the time that either is.
    assert choice_weights([[1.0, 5.0, 5.0]], 2)[0] == pytest.approx([0, 1 / 2, 1 / 2])


def test_agrees_with_drawing_at_random() -> None:
    rng = np.random.default_rng(0)
    proxy = rng.normal(size=40).round(1)  # with ties
    values = 0.5 * proxy + rng.normal(size=40)
    drawn = rng.permuted(np.tile(np.arange(40), (40_000, 1)), axis=1)[:, :7]
    # The rows are in random order, so the first of equals is one of them at random.
    chosen = drawn[np.arange(len(drawn)), proxy[drawn].argmax(axis=1)]
    error = 4 * values[chosen].std() / math.sqrt(len(chosen))
    assert expected_best([proxy], [values], 7)[0] == pytest.approx(values[chosen].mean(), abs=error)


@pytest.mark.parametrize(("samples", "n"), [(1, 1), (5, 5), (64, 7), (2048, 1000), (4096, 2)])
def test_weights_are_the_binomial_coefficients(samples: int, n: int) -> None:
    weights = rank_weights(samples, n)
    whole = math.comb(samples, n)
    assert weights == pytest.approx([math.comb(i, n - 1) / whole for i in range(samples)], rel=1e-9)
    assert weights.sum() == pytest.approx(1)


def test_one_is_the_mean_and_all_is_the_maximum() -> None:
    scores = np.random.default_rng(1).normal(size=(6, 9))
    assert expected_best(scores, scores, 1) == pytest.approx(scores.mean(axis=1))
    assert expected_best(scores, scores, 9) == pytest.approx(scores.max(axis=1))
    by_n = [expected_best(scores, scores, n) for n in range(1, 10)]
    assert (np.diff(by_n, axis=0) >= -1e-12).all()


def test_bound_of_the_kl() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
    assert kl_bound(4) == pytest.approx(0.6363, abs=1e-4)


def test_the_bound_is_met_without_ties() -> None:
    # Many outcomes, equally likely and all different: best-of-4 takes the i-th with ((i/m)^4 − ((i−1)/m)^4).
    steps = (np.arange(100_001) / 100_000) ** 4
    chosen = np.diff(steps)
    assert float((chosen * np.log(chosen * 100_000)).sum()) == pytest.approx(kl_bound(4), abs=1e-3)


def test_sizes_that_are_measured() -> None:
    assert measured_ns(1) == [1]
    assert measured_ns(5) == [1, 2, 3, 4, 5]
    assert measured_ns(16) == list(range(1, 17))
    assert measured_ns(40) == [*range(1, 17), 19, 23, 27, 32, 38, 40]


@pytest.mark.parametrize(
    ("proxy", "n", "words"),
    [
        ([[1.0, 2.0]], 3, "the best of 3 cannot be told from 2 samples"),
        ([[1.0, 2.0]], 0, "the best of 0"),
        ([1.0, 2.0], 1, r"not \(2,\)"),
        ([[1.0, float("nan")]], 1, "1 of 2 scores are not a number"),
    ],
)
def test_what_cannot_be_told_is_refused(proxy: list[float], n: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        expected_best(proxy, proxy, n)


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="have shapes"):
        expected_best([[1.0, 2.0]], [[1.0]], 1)
