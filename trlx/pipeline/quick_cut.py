"""Cutting a long prompt with few tokenisations, by the rule of whoever knows how prompts are cut.

A cut is searched for by counting the tokens of one shortened prompt after the other. Most of these counts need not be
exact: the tokens of the whole prompt tell within a few how many a shorter one has. So the rule is run on a tokenizer
that estimates, and tokenises only where the estimate is too close to the limit to decide.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from trlx.pipeline.batch_tokenizer import BatchTokenizer, Tokens
from trlx.utils.errors import UserError

# (prompt, tokenizer, most tokens) → a shorter prompt; raises UserError when it cannot be that short
CutPrompt = Callable[[str, Any, int], str]

# Tokens by which an estimate may be off: only those at the two ends of what was taken out can change.
MARGIN = 8


def quick_cut(
    cut: CutPrompt, tokenizer: BatchTokenizer, prompt: str, tokens: Tokens, room: int, tail: int
) -> tuple[str, list[int]]:
    """`cut(prompt, tokenizer, room)` and its ids.

    Args:
        cut: takes text out before the last `tail` characters; for one that does something else this is slower, not
            wrong.
        tokens: of the whole prompt, with offsets. room: most tokens.

    Raises: what `cut` raises.
    """
    if tokenizer.core is None:
        return _exactly(cut, tokenizer, prompt, room)
    estimate = _Estimate(tokenizer, prompt, tokens, room, tail)
    with contextlib.suppress(UserError):  # an estimate can have raised it
        text = cut(prompt, estimate, room)
        ids = estimate.ids(text)
        if len(ids) <= room:
            return text, ids
    return _exactly(cut, tokenizer, prompt, room)


def _exactly(cut: CutPrompt, tokenizer: BatchTokenizer, prompt: str, room: int) -> tuple[str, list[int]]:
    text = cut(prompt, tokenizer, room)
    return text, tokenizer(text)["input_ids"]


class _Estimate:
    """Answers as a tokenizer does; where the number of ids is plainly above or below `room`, only that is right."""

    def __init__(self, tokenizer: BatchTokenizer, prompt: str, tokens: Tokens, room: int, tail: int):
        self.tokenizer, self.prompt, self.room = tokenizer, prompt, room
        self.starts = [start for start, _ in tokens.offsets]
        self.end = prompt[len(prompt) - tail :]
        self.end_tokens = len(self.starts) - self._before(len(prompt) - tail)
        self.known: dict[str, list[int]] = {prompt: tokens.ids}

    def _before(self, position: int) -> int:
        """Tokens of the whole prompt that start before a character."""
        return bisect_left(self.starts, position)

    def ids(self, text: str) -> list[int]:
        """The real ids."""
        if text not in self.known:
            self.known[text] = self.tokenizer(text)["input_ids"]
        return self.known[text]

    def __call__(self, text: str, return_offsets_mapping: bool = False, **options: Any) -> dict[str, Any]:
        if return_offsets_mapping:
            return self.tokenizer(text, return_offsets_mapping=True)
        kept = len(text) - len(self.end)
        if text in self.known or kept < 0 or text != self.prompt[:kept] + self.end:
            return {"input_ids": self.ids(text)}
        count = self._before(kept) + self.end_tokens
        plain = abs(count - self.room) > MARGIN
        return {"input_ids": range(count) if plain else self.ids(text)}
