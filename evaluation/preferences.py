"""Which of two summaries is better: win, tie and loss rates, and the narrow place where an outside judge plugs in.

A judge gets pairs and gives preferences, nothing else: a language model, people behind a web form, or a file of answers
fit alike. One is asked in both orders, since judges favour a place (arXiv 2406.07791). Left out: such a judge itself;
aspects, explanations, more than two summaries at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.statistics import RESAMPLES, Interval, mean_interval, proportion

WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class Comparison:
    """Two summaries of one post."""

    prompt: str
    first: str
    second: str

    @property
    def swapped(self) -> Comparison:
        """The same two in the other order."""
        return Comparison(self.prompt, self.second, self.first)


class Judge(Protocol):
    """Anything that prefers. It must raise, not guess, when it has no answer."""

    name: str

    def prefer(self, comparisons: Sequence[Comparison]) -> list[float]:
        """One number a comparison: 1 the first is better, 0.5 a tie, 0 the second; between them, how sure it is."""
        ...


@dataclass(frozen=True)
class TwoOrders:
    """Preferences for the first summary of n comparisons, from asking as given and from asking with the two swapped."""

    as_given: list[float]
    swapped: list[float]

    @property
    def outcomes(self) -> list[float]:
        """The mean of both orders: a judge that only looks at the place gives a tie."""
        return [(one + other) / 2 for one, other in zip(self.as_given, self.swapped, strict=True)]

    @property
    def disagreement(self) -> Interval:
        """Position bias: the share of comparisons that the two orders decide differently, a tie being a decision."""
        pairs = zip(self.as_given, self.swapped, strict=True)
        return proportion(sum(_decision(one) != _decision(other) for one, other in pairs), len(self.as_given))


def ask_both_orders(judge: Judge, comparisons: Sequence[Comparison]) -> TwoOrders:
    """What the judge says of each comparison in either order.

    Raises: ValueError naming the judge when it gives another number of preferences, or one outside 0 to 1.
    """
    given = _asked(judge, comparisons)
    swapped = _asked(judge, [comparison.swapped for comparison in comparisons])
    return TwoOrders(given, [1 - value for value in swapped])


def in_both_orders(judge: Judge, comparisons: Sequence[Comparison]) -> list[float]:
    """Preferences for the first summary, the mean of both orders. Raises: as `ask_both_orders`."""
    return ask_both_orders(judge, comparisons).outcomes


def _asked(judge: Judge, comparisons: Sequence[Comparison]) -> list[float]:
    answers = [float(answer) for answer in judge.prefer(comparisons)]
    if len(answers) != len(comparisons):
        raise ValueError(f"judge {judge.name} gave {len(answers)} preferences for {len(comparisons)} comparisons")
    for comparison, answer in zip(comparisons, answers, strict=True):
        if not 0 <= answer <= 1:
            raise ValueError(f"judge {judge.name} gave {answer}, not 0 to 1, for {comparison.prompt[:60]!r}")
    return answers


def _decision(outcome: float) -> float:
    return WIN if outcome > TIE else LOSS if outcome < TIE else TIE


def preferred(ours: Sequence[float], theirs: Sequence[float], *, tie_within: float = 0.0) -> list[float]:
    """Outcomes by score, post by post: 1 where ours is higher, 0.5 where they are equal, 0 where it is lower.

    Args:
        tie_within: scores no further apart are equal; a model's score of the same text may differ by rounding.

    Raises: ValueError for lists of different lengths, or a score that is not a number.
    """
    gaps = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    if any(gap != gap for gap in gaps):
        raise ValueError("a score is not a number")
    return [TIE if abs(gap) <= tie_within else WIN if gap > 0 else LOSS for gap in gaps]


@dataclass(frozen=True)
class WinRate:
    """Shares of n comparisons that were won, tied and lost; `rate` counts a tie as half a win."""

    win: float
    tie: float
    loss: float
    rate: Interval
    n: int


def win_rate(outcomes: Sequence[float], *, resamples: int = RESAMPLES) -> WinRate:
    """Count outcomes (1 won, 0.5 tie, 0 lost; above one half counts as won, below as lost).

    The rate's interval is Wilson's where every outcome is 0 or 1, or all are the same, so that twenty wins or ties of
    twenty are not certainty; else it is a bootstrap over comparisons.

    Raises: ValueError for none, or for one outside 0 to 1.
    """
    if not all(LOSS <= outcome <= WIN for outcome in outcomes):
        raise ValueError("outcomes outside 0..1")
    if all(outcome in (WIN, LOSS) for outcome in outcomes) or len(set(outcomes)) == 1:
        rate = proportion(sum(outcomes), len(outcomes))
    else:
        rate = mean_interval(outcomes, resamples=resamples)
    decided = [_decision(outcome) for outcome in outcomes]
    win, tie, loss = (decided.count(value) / len(decided) for value in (WIN, TIE, LOSS))
    return WinRate(win, tie, loss, rate, len(decided))
