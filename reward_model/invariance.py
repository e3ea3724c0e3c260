"""Whether the score of a text depends on what it was batched with: on padding, and on the size of the batch.

It must not: a reward that moves with its neighbours is noise to PPO, and a usual sign of a score that is read at a pad
token (N+ details, arXiv 2403.17031, 14 and 20). Differences are absolute, in units of the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TEXTS = 32
BATCH_SIZES = (2, 7, 32)

Text = tuple[str, str]  # prompt, clean summary
# (texts, batch size) → one score a text, of batches made in the order of length
ScoreInBatches = Callable[[Sequence[Text], int], list[float]]


@dataclass(frozen=True)
class Invariance:
    """The largest |change| of a score against that of the text alone, over `texts` texts."""

    padding: float  # each text beside the longest one
    batch_size: float  # batches of each of `BATCH_SIZES`
    texts: int


def invariance(score: ScoreInBatches, texts: Sequence[Text], most: int = TEXTS) -> Invariance | None:
    """Measured on up to `most` texts, from the shortest to the longest; None for fewer than two."""
    chosen = spread_by_length(texts, most)
    if len(chosen) < 2:
        return None
    alone = score(chosen, 1)
    longest = chosen[-1]
    padded = [score([text, longest], 2)[0] for text in chosen[:-1]]
    batched = [score(chosen, size) for size in BATCH_SIZES]
    return Invariance(_largest(alone[:-1], padded), _largest([alone] * len(batched), batched), len(chosen))


def spread_by_length(texts: Sequence[Text], most: int) -> list[Text]:
    """Up to `most` distinct texts, evenly spaced in the order of length, both ends among them."""
    ordered = sorted(dict.fromkeys(texts), key=lambda text: (len(text[0]) + len(text[1]), text))
    if len(ordered) <= most:
        return ordered
    return [ordered[round(index * (len(ordered) - 1) / (most - 1))] for index in range(most)]


def _largest(alone: ArrayLike, together: ArrayLike) -> float:
    return float(np.max(np.abs(np.subtract(alone, together))))
