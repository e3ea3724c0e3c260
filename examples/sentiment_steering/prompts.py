"""Prompts: the first words of reviews, and which of them sound positive, negative or neither."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from trlx.utils.errors import UserError

FEWEST, MOST = 3, 5  # words
KINDS = ("positive", "negative", "neutral")


def first_words(reviews: Sequence[str], seed: int = 0) -> list[str]:
    """The first three to five words of each review, how many being drawn; a shorter review gives no prompt."""
    rng = random.Random(seed)
    cut = [review.split()[: rng.randint(FEWEST, MOST)] for review in reviews]
    return [" ".join(words) for words in cut if len(words) >= FEWEST]


def by_kind(prompts: Sequence[str], scores: Sequence[float], count: int) -> dict[str, list[str]]:
    """The `count` prompts that score highest, those that score lowest, and those nearest to one half.

    Fewer where there are not enough prompts for three kinds; no prompt is of two kinds, and each comes once.

    Args:
        scores: probabilities, one a prompt.
    """
    score_of = dict(zip(prompts, scores, strict=True))
    count = min(count, len(score_of) // len(KINDS))
    rising = sorted(score_of, key=lambda prompt: (score_of[prompt], prompt))
    low, between, high = rising[:count], rising[count : len(rising) - count], rising[len(rising) - count :]
    middle = sorted(between, key=lambda prompt: (abs(score_of[prompt] - 0.5), prompt))[:count]
    return dict(zip(KINDS, (high, low, middle), strict=True))


def read_prompts(path: str) -> list[str]:
    """One prompt a line, empty lines left out. Raises: UserError for a file that cannot be read or has none."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts {path} cannot be read ({error}): give a text file, one prompt a line") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if len(set(prompts)) < len(KINDS):
        raise UserError(f"--prompts {path} has {len(set(prompts))} different prompts: give {len(KINDS)} or more lines")
    return prompts
