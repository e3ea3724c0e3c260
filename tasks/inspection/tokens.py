"""Lengths of rows in tokens, and what a limit takes of each that is too long; on every core."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tasks.encoding.cutting import fit
from tasks.form import TextForm, response_text
from tasks.inspection.measure import Measured
from tasks.inspection.view import Record, responses_of
from trlx.pipeline.batch_tokenizer import BatchTokenizer, in_threads
from trlx.utils.errors import UserError


class TokenRuler:
    """Counts tokens; a response has what stands before it and its EOS, as in training.

    Args:
        form: of the texts. max_length: tokens that prompt and (longer) response may have together.
    """

    unit = "tokens"

    def __init__(self, form: TextForm, tokenizer: Any, max_length: int):
        self._form = form
        self.max_length = max_length
        self._tokenizer = BatchTokenizer(tokenizer)

    def measured(self, records: Iterable[Record]) -> Iterator[Measured]:
        return in_threads(self._measure, records)

    def _measure(self, block: list[Record]) -> Measured:
        prompts = np.array(self._count([record.prompt for record in block]))
        sides = zip(*map(responses_of, block), strict=True)
        responses = np.array([self._count([response_text(text) for text in texts]) for texts in sides]) + 1
        rooms = self.max_length - responses.max(axis=0)
        over = np.flatnonzero(prompts > rooms).tolist()
        lost: dict[int, int | None] = dict.fromkeys(over)
        possible = [place for place in over if rooms[place] > 0]
        cut = fit([block[place].prompt for place in possible], rooms[possible].tolist(), self._form, self._tokenizer)
        for place, fitted in zip(possible, cut, strict=True):
            lost[place] = None if isinstance(fitted, UserError) else int(prompts[place]) - len(fitted.tokens)
        return Measured(block, prompts, responses, lost)

    def _count(self, texts: list[str]) -> list[int]:
        return [len(tokens) for tokens in self._tokenizer.encode(texts)]
