"""How often one summarizer's summary beats another's, post by post, to each judge; and how often at equal length.

Longer summaries are preferred for being longer, by people and by reward models. Therefore each rate has beside it the
one at equal length: a logistic regression of the preference on the log of the length ratio, one for each policy, read
off where that is 0 (after Stiennon et al. 2020, arXiv 2009.01325, who fit all policies with one slope; a slope for each
keeps a policy's number from depending on who else is judged). Lengths are counted in words.

An outside judge comes in by `evaluation.preferences`: what it prefers, post by post, goes into the outcomes that
`preferences` takes, beside those by score.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evaluation.length_control import length_controlled
from evaluation.preferences import TIE, preferred, win_rate
from evaluation.statistics import Interval

Outcomes = dict[str, dict[str, list[float]]]  # judge → model → 1 won, 0.5 tie, 0 lost, one a post
LIKE_LENGTH = math.log(1.25)  # neither summary more than a quarter longer than the other
LEAST_SHARE, LEAST_POSTS = 0.05, 5  # of the posts that must have summaries of like length


@dataclass(frozen=True)
class Side:
    """One summarizer's n summaries."""

    name: str
    scores: Mapping[str, Sequence[float]]  # by judge
    texts: Sequence[str]
    ended: Sequence[bool]

    @property
    def words(self) -> list[int]:
        """The length of each."""
        return [len(text.split()) for text in self.texts]


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


def by_score(sides: Sequence[Side], against: Side) -> Outcomes:
    """Outcomes by the scores that both sides have. The same text is a tie, however its scores were rounded."""
    found: Outcomes = {}
    for judge, theirs in against.scores.items():
        for side in sides:
            if judge in side.scores:
                decided = preferred(side.scores[judge], theirs)
                outcomes = [TIE if same else one for one, same in zip(decided, _same(side, against), strict=True)]
                found.setdefault(judge, {})[side.name] = outcomes
    return found


def _same(one: Side, other: Side) -> list[bool]:
    ours, theirs = zip(one.texts, one.ended, strict=True), zip(other.texts, other.ended, strict=True)
    return [mine == its for mine, its in zip(ours, theirs, strict=True)]


def preferences(
    outcomes: Outcomes, sides: Sequence[Side], against: Side, controlled: Collection[str]
) -> list[Preference]:
    """The rates of all outcomes.

    Args:
        outcomes: from `by_score`, and of outside judges if there are any.
        sides, against: on the same posts in the same order.
        controlled: names of the sides whose rates are also given at equal length.
    """
    ratios = {side.name: log_length_ratios(side.words, against.words) for side in sides}
    found = []
    for judge, of_judge in outcomes.items():
        for name, won in of_judge.items():
            counted = win_rate(won)
            readable = name in controlled and _meets_zero(ratios[name])
            level = length_controlled({name: won}, {name: ratios[name]})[name] if readable else None
            shares = (counted.win, counted.tie, counted.loss)
            found.append(Preference(judge, name, against.name, *shares, counted.rate, level))
    return found


def _meets_zero(ratios: Sequence[float]) -> bool:
    """Whether enough posts have summaries of like length to read a rate from; elsewhere it would be a guess."""
    alike = sum(abs(ratio) <= LIKE_LENGTH for ratio in ratios)
    return alike >= max(LEAST_POSTS, LEAST_SHARE * len(ratios))


def log_length_ratios(ours: Sequence[int], theirs: Sequence[int]) -> list[float]:
    """log(words of ours / words of theirs) of each post; an empty summary counts as one word."""
    return [math.log(max(1, a) / max(1, b)) for a, b in zip(ours, theirs, strict=True)]
