"""How often one summarizer's summary beats another's, post by post, to each judge; and how often at equal length.

Longer summaries are preferred for being longer, by people and by reward models. Therefore each rate has beside it the
one at equal length: a logistic regression of the preference on the policy and the log of the length ratio, read off
where that is 0 (Stiennon et al. 2020, arXiv 2009.01325). Lengths are counted in words.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evaluation.length_control import length_controlled
from evaluation.preferences import preferred, win_rate
from evaluation.statistics import Interval

ROUNDING = 1e-6  # the same text scored in two batches may differ by that much
LEAST_POSTS = 5  # on which a summary must be as long or longer, and as many on which it is as long or shorter


@dataclass(frozen=True)
class Side:
    """One summarizer's n summaries: their scores by judge, and their lengths in words."""

    name: str
    scores: Mapping[str, Sequence[float]]
    words: Sequence[int]


@dataclass(frozen=True)
class Preference:
    """Shares of the posts on which `model` wins, ties and loses; `rate` counts a tie half."""

    judge: str
    model: str
    against: str
    win: float
    tie: float
    loss: float
    rate: Interval
    length_controlled: Interval | None  # the rate at equal length; None where it cannot be told


def compare_sides(sides: Sequence[Side], against: Side, controlled: Collection[str]) -> list[Preference]:
    """Every judge's preferences between each of `sides` and one other.

    Args:
        sides, against: on the same posts in the same order; judges that both sides have are asked.
        controlled: names of the sides whose rates are also given at equal length; one regression has them all.
    """
    found = []
    for judge, theirs in against.scores.items():
        asked = {
            side.name: preferred(side.scores[judge], theirs, tie_within=ROUNDING)
            for side in sides
            if judge in side.scores
        }
        ratios = {side.name: log_length_ratios(side.words, against.words) for side in sides}
        fitted = {name: wins for name, wins in asked.items() if name in controlled and _meets_zero(ratios[name])}
        at_equal_length = length_controlled(fitted, {name: ratios[name] for name in fitted}) if fitted else {}
        for name, outcomes in asked.items():
            counted = win_rate(outcomes)
            found.append(
                Preference(
                    judge,
                    name,
                    against.name,
                    counted.win,
                    counted.tie,
                    counted.loss,
                    counted.rate,
                    at_equal_length.get(name),
                )
            )
    return found


def _meets_zero(ratios: Sequence[float]) -> bool:
    """Whether there are summaries of like length, on both sides, to read the rate from; else it would be guessed."""
    return min(sum(ratio >= 0 for ratio in ratios), sum(ratio <= 0 for ratio in ratios)) >= LEAST_POSTS


def log_length_ratios(ours: Sequence[int], theirs: Sequence[int]) -> list[float]:
    """log(words of ours / words of theirs) of each post; an empty summary counts as one word."""
    return [math.log(max(1, a) / max(1, b)) for a, b in zip(ours, theirs, strict=True)]
