"""Outcomes, rates, and judges that favour a place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.preferences import (
    Comparison,
    Judge,
    TwoOrders,
    ask_both_orders,
    in_both_orders,
    preferred,
    win_rate,
)
from evaluation.statistics import proportion


class LongerIsBetter:
    """Prefers the longer summary, but takes the first unless the second is `head_start` characters longer."""

    name = "longer"

    def __init__(self, head_start: int = 0):
        self.head_start = head_start
        self.asked: list[Comparison] = []

    def prefer(self, comparisons: Sequence[Comparison]) -> list[float]:
        self.asked += comparisons
        gaps = [len(one.first) + self.head_start - len(one.second) for one in comparisons]
        return [0.5 if gap == 0 else float(gap > 0) for gap in gaps]


class Fixed:
    """Gives the same answers whatever it is asked."""

    name = "fixed"

    def __init__(self, answers: list[float]):
        self.answers = answers

    def prefer(self, comparisons: Sequence[Comparison]) -> list[float]:
        return self.answers


COMPARISONS = [Comparison("p", "aaaa", "a"), Comparison("p", "a", "aaaa"), Comparison("p", "aa", "a")]


def test_a_fair_judge_says_the_same_in_both_orders() -> None:
    judge: Judge = LongerIsBetter()
    both = ask_both_orders(judge, COMPARISONS)
    assert both.outcomes == in_both_orders(judge, COMPARISONS) == [1.0, 0.0, 1.0]
    assert both.disagreement == proportion(0, 3)


def test_position_bias_becomes_a_tie_and_is_counted() -> None:
    # Two characters' head start: the third, one character apart, goes to whichever stands first.
    judge = LongerIsBetter(head_start=2)
    both = ask_both_orders(judge, COMPARISONS)
    assert both == TwoOrders(as_given=[1.0, 0.0, 1.0], swapped=[1.0, 0.0, 0.0])
    assert both.outcomes == [1.0, 0.0, 0.5]
    assert both.disagreement == proportion(1, 3)
    assert judge.asked == [*COMPARISONS, *(Comparison("p", one.second, one.first) for one in COMPARISONS)]


def test_a_judge_that_only_looks_at_the_place_prefers_nothing() -> None:
    both = ask_both_orders(Fixed([1.0, 1.0, 1.0]), COMPARISONS)
    assert both.outcomes == [0.5] * 3
    assert both.disagreement == proportion(3, 3)


def test_unsure_answers_are_averaged_and_decide_by_their_side() -> None:
    both = TwoOrders(as_given=[0.75, 0.5, 1.0], swapped=[1.0, 0.25, 0.5])
    assert both.outcomes == [0.875, 0.375, 0.75]
    assert both.disagreement == proportion(2, 3)  # 0.75 and 1 agree; a tie and a loss, a win and a tie do not


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([1.0], "judge fixed gave 1 preferences for 3 comparisons"),
        ([1.0, 2.0, 0.0], "judge fixed gave 2.0, not 0 to 1, for 'p'"),
        ([1.0, math.nan, 0.0], "judge fixed gave nan, not 0 to 1"),
    ],
)
def test_a_judge_that_does_not_answer(answers: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_both_orders(Fixed(answers), COMPARISONS)


def test_preferred_by_score() -> None:
    assert preferred([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [0.0, 0.5, 1.0]
    assert preferred([1.0, 1.1], [1.0, 1.0], tie_within=0.2) == [0.5, 0.5]
    assert preferred([], []) == []
    with pytest.raises(ValueError, match="shorter"):
        preferred([1.0], [])
    with pytest.raises(ValueError, match="not a number"):
        preferred([math.nan], [1.0])


def test_win_rate_by_hand() -> None:
    found = win_rate([1, 1, 0.5, 0])
    assert (found.win, found.tie, found.loss, found.n) == (0.5, 0.25, 0.25, 4)
    assert found.rate.mean == 0.625
    # Of 256 resamples 5 have a mean of 1/8 or less, under 2.5 %, and 19 one of 1/4 or less; 16 have one of 1.
    assert found.rate.low == 0.25
    assert found.rate.high == 1.0
    assert win_rate([0.75, 0.25]).win == 0.5


def test_twenty_of_twenty_is_not_certainty() -> None:
    found = win_rate([1.0] * 20)
    assert found.rate == proportion(20, 20)
    assert found.rate.low == pytest.approx(1 - 0.1611, abs=1e-4)
    assert win_rate([0.0]).rate.high == pytest.approx(0.7935, abs=1e-4)
    ties = win_rate([0.5] * 5)
    assert (ties.tie, ties.rate.mean) == (1.0, 0.5)
    assert ties.rate == proportion(2.5, 5)  # nor are five ties of five
    with pytest.raises(ValueError, match="no share"):
        win_rate([])
    for bad in (1.5, math.nan):
        with pytest.raises(ValueError, match=r"outside 0\.\.1"):
            win_rate([1.0, bad])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_shares_add_up_and_sides_swap(scores: list[tuple[int, int]]) -> None:
    ours, theirs = [float(a) for a, _ in scores], [float(b) for _, b in scores]
    found = win_rate(preferred(ours, theirs), resamples=50)
    back = win_rate(preferred(theirs, ours), resamples=50)
    assert found.win + found.tie + found.loss == pytest.approx(1)
    assert (found.win, found.tie, found.loss) == (back.loss, back.tie, back.win)
    assert found.rate.mean == pytest.approx(found.win + found.tie / 2)
    assert found.rate.mean == pytest.approx(1 - back.rate.mean)
