"""Preferences between summarizers, and where a rate at equal length may be read."""

from __future__ import annotations

import math

import pytest

from evaluation.win_rates import LEAST_POSTS, Outcomes, Side, by_score, log_length_ratios, preferences


def side(name: str, scores: dict[str, list[float]], words: list[int]) -> Side:
    return Side(name, scores, [" ".join([name] * count) for count in words], [True] * len(words))


def test_ratios_in_words() -> None:
    assert log_length_ratios([2, 0, 3], [1, 4, 0]) == pytest.approx([math.log(2), -math.log(4), math.log(3)])


def test_only_judges_that_both_have_are_asked() -> None:
    mine = side("mine", {"reward model": [1.0, 2.0], "gold": [0.0, 1.0]}, [3, 3])
    theirs = side("reference", {"reward model": [2.0, 1.0], "second reward model": [0.0, 0.0]}, [3, 3])
    assert by_score([mine], theirs) == {"reward model": {"mine": [0.0, 1.0]}}
    (found,) = preferences(by_score([mine], theirs), [mine], theirs, [])
    assert (found.win, found.tie, found.loss, found.length_controlled) == (0.5, 0.0, 0.5, None)


def test_the_same_text_is_a_tie_however_its_scores_are_rounded() -> None:
    mine = Side("mine", {"reward model": [1.0, 1.0, 1.0]}, ["a b", "a b", "a b"], [True, True, False])
    theirs = Side("sft", {"reward model": [1.03, 0.5, 1.03]}, ["a b", "a c", "a b"], [True, True, True])
    # The third was cut where the other ended, so the reward model read another token.
    assert by_score([mine], theirs) == {"reward model": {"mine": [0.5, 1.0, 0.0]}}


def test_no_rate_at_equal_length_where_lengths_do_not_meet() -> None:
    """All twice as long, or some twice as long and some half: what would be at equal length was not seen."""
    count = 40
    scores = [float(i % 2) for i in range(count)]
    truth = side("reference", {"gold": [0.5] * count}, [10] * count)
    long = side("long", {"gold": scores}, [20] * count)
    apart = side("apart", {"gold": scores}, [20 if i % 4 < 2 else 5 for i in range(count)])
    near = side("near", {"gold": scores}, [12 if i % 4 < 2 else 8 for i in range(count)])
    few = side("few", {"gold": scores}, [10] * (LEAST_POSTS - 1) + [20] * (count - LEAST_POSTS + 1))
    sides = [long, apart, near, few]
    rates = {
        one.model: one.length_controlled
        for one in preferences(by_score(sides, truth), sides, truth, [one.name for one in sides])
    }
    assert rates["long"] is rates["apart"] is rates["few"] is None
    # Wins do not go with length in `near`, so the rate is the plain one.
    assert rates["near"] is not None
    assert rates["near"].mean == pytest.approx(0.5, abs=1e-6)


def test_a_rate_at_equal_length_does_not_depend_on_who_else_is_judged() -> None:
    count = 60
    truth = side("reference", {"gold": [0.5] * count}, [10] * count)
    fair = side("fair", {"gold": [float(i % 2) for i in range(count)]}, [11 if i % 4 < 2 else 9 for i in range(count)])
    # Wins where it is longer, mostly.
    longer = [float(i % 10 != 0) if i % 4 < 2 else float(i % 10 == 1) for i in range(count)]
    fond = side("fond of length", {"gold": longer}, [12 if i % 4 < 2 else 9 for i in range(count)])
    alone = preferences(by_score([fair], truth), [fair], truth, ["fair"])[0]
    sides = [fair, fond]
    beside = preferences(by_score(sides, truth), sides, truth, ["fair", "fond of length"])[0]
    assert alone == beside


def test_an_outside_judge_has_a_place() -> None:
    sides, truth = [side("ppo", {}, [10] * 4)], side("reference", {}, [10] * 4)
    outcomes: Outcomes = {"a person": {"ppo": [1.0, 1.0, 0.5, 0.0]}}
    (found,) = preferences(outcomes, sides, truth, [])
    assert (found.judge, found.win, found.tie, found.loss) == ("a person", 0.5, 0.25, 0.25)
    assert found.rate.mean == 0.625
