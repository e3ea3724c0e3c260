"""Texts that end a response."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from trlx.utils.errors import UserError

SPARE_TOKENS = 4  # in front of the longest stop: a character may take four, and some tokenizers trim the first space


class StopSequences:
    """Texts that end a response as soon as its decoded text holds one of them, wherever token boundaries fall.

    A text that is exactly one of the tokenizer's special tokens is met as that token, since decoding leaves it out.

    Args:
        texts: one text or several, none empty.
        tokenizer: the policy's.

    Raises: UserError for an empty stop sequence or one that is no text.
    """

    def __init__(self, texts: str | Iterable[str], tokenizer: PreTrainedTokenizerBase):
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str) or not text:
                raise UserError(f"stop_sequences holds {text!r}: each must be a text of at least one character")
        self.tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)
        special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        self.token_ids = frozenset(special[text] for text in texts if text in special)
        self.texts = tuple(text for text in texts if text not in special)
        # Every token that is not special decodes to at least one byte.
        self.window = max((len(text.encode()) for text in self.texts), default=0) + SPARE_TOKENS

    def __bool__(self) -> bool:
        return bool(self.texts or self.token_ids)

    def found_in(self, text: str) -> bool:
        """Whether `text` holds a stop."""
        return any(stop in text for stop in self.texts)

    def trim(self, text: str) -> str:
        """`text` up to its first stop, without white space at the new end; unchanged if it holds none."""
        starts = [start for stop in self.texts if (start := text.find(stop)) >= 0]
        return text[: min(starts)].rstrip() if starts else text

    def watch(self, rows: int) -> StopWatch:
        """Follow `rows` responses, token by token."""
        return StopWatch(self, rows)


class StopWatch:
    """Which of several growing responses hold a stop. Only their last tokens are decoded at every step."""

    def __init__(self, stops: StopSequences, rows: int):
        self.stops = stops
        self.tails: list[list[int]] = [[] for _ in range(rows)]

    def completed(self, rows: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """For each of `rows`, which goes on with the token beside it: whether that completed a stop."""
        stops = self.stops
        for row, token in zip(rows, tokens, strict=True):
            if token not in stops.special_ids:  # they add no text
                self.tails[row] = [*self.tails[row], token][-stops.window :]
        ends = [token in stops.token_ids for token in tokens]
        if stops.texts:
            tails = [self.tails[row] for row in rows]
            texts = stops.tokenizer.batch_decode(tails, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            ends = [end or stops.found_in(text) for end, text in zip(ends, texts, strict=True)]
        return ends
