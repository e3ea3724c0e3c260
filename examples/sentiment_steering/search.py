"""The text that a judge likes best among what a policy writes: search by sampling, scoring and keeping the best.

A beam of texts is continued `branch` times each, a few tokens at a time; the judge scores every text, and the best ones
are continued further. With one round it is best-of-n. Left out: search over token ids by gradients, whose winners no
model would write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from examples.sentiment_steering.rewards import Score

Extend = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Found:
    """The best text, its score, and the scores of all that were looked at."""

    text: str
    score: float
    scores: dict[str, float]


def search(starts: Sequence[str], extend: Extend, score: Score, width: int, branch: int, rounds: int) -> Found:
    """The best-scored of all texts met.

    Args:
        starts: texts to begin with; they are only continued, not scored.
        extend: gives each text, continued by the policy.
        score: gives each text a number.
        width: texts that are kept after a round. branch: continuations of each. rounds: of continuing.

    Raises: ValueError for nothing to start from, or a number under 1.
    """
    if not starts or min(width, branch, rounds) < 1:
        raise ValueError("search needs a start, and width, branch and rounds of at least 1")
    scores: dict[str, float] = {}
    beam = list(starts)
    for _ in range(rounds):
        texts = list(dict.fromkeys(extend([text for text in beam for _ in range(branch)])))
        scores.update(zip(texts, score(texts), strict=True))
        beam = sorted(texts, key=scores.__getitem__, reverse=True)[:width]
    best = max(scores, key=scores.__getitem__)
    return Found(best, scores[best], scores)
