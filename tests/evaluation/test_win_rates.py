"""Preferences between summarizers, and where a rate at equal length may be read."""

from __future__ import annotations

import math

import pytest

from evaluation.win_rates import LEAST_POSTS, Side, compare_sides, log_length_ratios


def test_ratios_in_words() -> None:
    assert log_length_ratios([2, 0, 3], [1, 4, 0]) == pytest.approx([math.log(2), -math.log(4), math.log(3)])


def test_only_judges_that_both_have_are_asked() -> None:
    mine = Side("mine", {"reward model": [1.0, 2.0], "gold": [0.0, 1.0]}, [3, 3])
    theirs = Side("reference", {"reward model": [2.0, 1.0], "second reward model": [0.0, 0.0]}, [3, 3])
    found = compare_sides([mine], theirs, [])
    assert [(one.judge, one.win, one.tie, one.loss) for one in found] == [("reward model", 0.5, 0.0, 0.5)]
    assert found[0].length_controlled is None


def test_no_rate_at_equal_length_where_all_are_longer() -> None:
    """Every summary is twice as long as its reference: what would be at equal length was not seen."""
    count = 40
    scores = [float(i % 2) for i in range(count)]
    long = Side("long", {"gold": scores}, [20] * count)
    both = Side("both", {"gold": scores}, [20 if i % 4 < 2 else 5 for i in range(count)])
    truth = Side("reference", {"gold": [0.5] * count}, [10] * count)
    rates = {one.model: one.length_controlled for one in compare_sides([long, both], truth, ["long", "both"])}
    assert rates["long"] is None
    assert rates["both"] is not None
    # Wins do not go with length in `both`, so the rate is the plain one.
    assert rates["both"].mean == pytest.approx(0.5, abs=1e-6)
    few = Side("few", {"gold": scores}, [5] * (LEAST_POSTS - 1) + [20] * (count - LEAST_POSTS + 1))
    assert compare_sides([few], truth, ["few"])[0].length_controlled is None
