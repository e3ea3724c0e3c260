"""Win shares at equal length: solved by hand, recovered from planted effects, and refused where nothing can be said."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from evaluation.length_control import length_controlled
from evaluation.statistics import Interval

Z = 1.959964


def test_solved_by_hand() -> None:
    # At ratio +1 the odds of winning are 3:1, at −1 they are 1:1. Two cells, two coefficients: the line through both
    # log odds is ln(3)/2 at 0, so the odds there are √3. A cell's log odds have variance 1 / (n p q): 4/3 and 1.
    found = length_controlled({"a": [1, 1, 1, 0, 1, 1, 0, 0]}, {"a": [1, 1, 1, 1, -1, -1, -1, -1]})["a"]
    assert found is not None
    assert found.mean == pytest.approx(math.sqrt(3) / (1 + math.sqrt(3)))
    error = math.sqrt((4 / 3 + 1) / 4)
    assert found.low == pytest.approx(expit(math.log(3) / 2 - Z * error), abs=1e-6)
    assert found.high == pytest.approx(expit(math.log(3) / 2 + Z * error), abs=1e-6)
    assert found.n == 8


def test_equal_lengths_give_the_plain_share_and_ties_half() -> None:
    # Log odds 0; variance 1 / (n p q) = 1 without ties.
    plain = length_controlled({"a": [1, 1, 0, 0]}, {"a": [0, 0, 0, 0]})["a"]
    assert plain == Interval(0.5, pytest.approx(expit(-Z), abs=1e-6), pytest.approx(expit(Z), abs=1e-6), 4)
    # Two ties of four halve the squared residuals, 1 to ½, and so the variance.
    tied = length_controlled({"a": [1, 0.5, 0.5, 0]}, {"a": [0, 0, 0, 0]})["a"]
    assert tied is not None
    assert tied.low == pytest.approx(expit(-Z * math.sqrt(0.5)), abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ties = length_controlled({"a": [0.5] * 6}, {"a": [0.2, 0.1, 0.3, -0.1, 0.0, 0.6]})["a"]
    assert ties == Interval(pytest.approx(0.5), pytest.approx(0.5), pytest.approx(0.5), 6)


def planted(rng: np.random.Generator, count: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Policy "long" is better (log odds 0.5) and longer, "short" is worse (−0.4) and no longer; length pays 1.5."""
    ratios = {"long": rng.normal(0.6, 0.5, count), "short": rng.normal(0.0, 0.5, count)}
    effects = {"long": 0.5, "short": -0.4}
    won = {name: rng.random(count) < expit(effects[name] + 1.5 * ratio) for name, ratio in ratios.items()}
    return {name: w.astype(float).tolist() for name, w in won.items()}, {n: r.tolist() for n, r in ratios.items()}


def test_recovers_planted_effects() -> None:
    outcomes, ratios = planted(np.random.default_rng(0), 4000)
    found = length_controlled(outcomes, ratios)
    assert list(found) == ["long", "short"]
    for name, effect in (("long", 0.5), ("short", -0.4)):
        interval = found[name]
        assert interval is not None and interval.low is not None and interval.high is not None
        assert interval.mean == pytest.approx(expit(effect), abs=0.03)  # the standard error is 0.01
        assert 0.03 < interval.high - interval.low < 0.05
    # Length made the difference that the raw share shows: 0.76 against 0.62.
    assert np.mean(outcomes["long"]) > found["long"].high + 0.08  # type: ignore[union-attr, operator]


def test_intervals_cover_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        interval = length_controlled(*planted(rng, 150))["long"]
        hits += interval.low < expit(0.5) < interval.high  # type: ignore[union-attr, operator]
    assert 87 <= hits <= 100


def test_same_as_the_likelihood_maximised_directly() -> None:
    rng = np.random.default_rng(2)
    outcomes, ratios = planted(rng, 60)
    outcomes["short"][:20] = [0.5] * 20
    won = np.concatenate([outcomes["long"], outcomes["short"]])
    longer = np.concatenate([ratios["long"], ratios["short"]])
    is_long = np.repeat([1.0, 0.0], 60)

    def loss(beta: np.ndarray) -> float:
        odds = beta[0] * is_long + beta[1] * (1 - is_long) + beta[2] * longer
        return float(np.sum(np.logaddexp(0, odds) - won * odds))

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    found = length_controlled(outcomes, ratios)
    assert found["long"].mean == pytest.approx(expit(best[0]), abs=1e-5)  # type: ignore[union-attr]
    assert found["short"].mean == pytest.approx(expit(best[1]), abs=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("won", "longer"),
    [
        ([1, 1, 1, 1], [0.5, -0.5, 0.1, 0]),  # always wins
        ([0, 0, 0], [0.5, -0.5, 0.1]),
        ([1, 1, 0, 0], [1, 2, -1, -2]),  # wins when longer, and only then
        ([1, 1, 0, 0], [1e-3, 2e-3, -1e-3, -2e-3]),
        ([1, 1, 0, 1, 0, 0], [1, 2, 0, 0, -1, -2]),  # the same but for one length with both (quasi-separation)
        ([1, 1, 0.5, 0], [1, 2, 0, -2]),
        ([1, 1, 0, 0], [1, 1, 1, 1]),  # length cannot be told from the policy
        ([0.5], [0.3]),
    ],
)
def test_none_where_nothing_can_be_said(won: list[float], longer: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert length_controlled({"a": won}, {"a": longer}) == {"a": None}


def test_none_where_the_data_are_all_but_separated() -> None:
    # b wins when shorter; the ties of a, whose lengths hardly differ, allow any slope that a float can hold and more.
    lengths = {"a": [0.001, -0.003, 0.0, -0.006, 0.004, -0.007, 0.001, 0.006], "b": [0.49, -0.3, -0.51]}
    found = length_controlled({"a": [0, 0, 0.5, 0.5, 0, 1, 0, 0.5], "b": [0, 0, 1]}, lengths)
    assert found == {"a": None, "b": None}


def test_one_policy_that_always_wins_leaves_the_others() -> None:
    outcomes, ratios = planted(np.random.default_rng(3), 80)
    without = length_controlled(outcomes, ratios)
    found = length_controlled({"best": [1.0] * 5, **outcomes}, {"best": [0.1] * 5, **ratios})
    assert list(found) == ["best", "long", "short"]
    assert found == {"best": None, **without}
    # Length alone tells b's outcomes, but c's show what length is worth.
    b, c = [1.0, 1, 0, 0], [1.0, 0, 1, 0, 1, 0]
    lengths = {"b": [1.0, 2, -1, -2], "c": [1.0, 1, 0.5, -0.5, -1, -1]}
    assert length_controlled({"b": b, "c": c}, lengths)["b"] is not None
    assert length_controlled({}, {}) == {}


def test_the_sides_swapped_give_the_rest_of_the_share() -> None:
    outcomes, ratios = planted(np.random.default_rng(4), 50)
    there = length_controlled(outcomes, ratios)
    back = length_controlled(
        {name: [1 - won for won in values] for name, values in outcomes.items()},
        {name: [-ratio for ratio in values] for name, values in ratios.items()},
    )
    for name in outcomes:
        one, other = there[name], back[name]
        assert one is not None and other is not None and other.low is not None
        assert one.mean == pytest.approx(1 - other.mean, abs=1e-6)
        assert one.high == pytest.approx(1 - other.low, abs=1e-6)


@pytest.mark.parametrize(
    ("won", "longer"),
    [([1, 0], [0.0]), ([], []), ([2, 0], [0.0, 1.0]), ([1, 0], [math.nan, 0]), ([1, math.nan], [0, 0])],
)
def test_refuses(won: list[float], longer: list[float]) -> None:
    with pytest.raises(ValueError, match=r"length ratios|non-empty|outside 0..1|not finite"):
        length_controlled({"a": won}, {"a": longer})
