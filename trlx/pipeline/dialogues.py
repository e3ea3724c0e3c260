"""Dialogues as token ids: who said what, cut to length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from trlx.utils.errors import UserError


@dataclass
class DialogMessage:
    """One turn of a dialogue."""

    is_output: bool  # True = the model's, to be learned; False = given to it
    tokens: tuple[int, ...]  # (T,) ids


def tokenize_dialogue(
    dialogue: str | Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int = 2048
) -> list[DialogMessage]:
    """A dialogue as messages that together have at most `max_length` tokens.

    Args:
        dialogue: prompt, output, prompt, output, ...; or one text, the output to a prompt that is the beginning-of-text
            token alone. The end-of-sequence token closes the last output, where the text does not.
        tokenizer: its `truncation_side` says which end of a long dialogue is lost: "right" keeps the start, "left" the
            end.

    Returns: messages of at least one token. The first is never an output: where it would be, a message of the
        beginning-of-text token goes before it, and takes the place of one token if all places are taken.
    Raises: UserError for an odd number of texts or none, for what is not text, or for `max_length` below 2.
    """
    if max_length < 2:
        raise UserError(f"max_length is {max_length}: a dialogue needs room for at least 2 tokens")
    beginning = DialogMessage(False, (_beginning(tokenizer),))
    if isinstance(dialogue, str):
        messages = [beginning, DialogMessage(True, _encode(dialogue, tokenizer))]
    else:
        texts = _checked(dialogue)
        messages = [DialogMessage(i % 2 == 1, _encode(text, tokenizer)) for i, text in enumerate(texts)]
    messages[-1] = replace(messages[-1], tokens=_closed(messages[-1].tokens, tokenizer))
    kept = cut(messages, max_length, tokenizer.truncation_side)
    if kept[0].is_output:
        return [beginning, *cut(kept, max_length - 1, tokenizer.truncation_side)]
    return kept


def tokenize_sample(sample: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[DialogMessage]:
    """What a causal model learns a sample from: `tokenize_dialogue` of a dialogue, but of one text every token.

    The end-of-sequence token that closes a text is cut off with what is too long on the right.

    Raises: UserError as `tokenize_dialogue`.
    """
    if not isinstance(sample, str):
        return tokenize_dialogue(sample, tokenizer, max_length)
    return cut(
        [DialogMessage(True, _closed(_encode(sample, tokenizer), tokenizer))], max_length, tokenizer.truncation_side
    )


def tokenize_pair(sample: Any, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[DialogMessage]:
    """What an encoder-decoder learns a sample from: the encoder's input, with the tokenizer's own special tokens, and
    the output closed by end-of-sequence; each of at most `max_length` tokens.

    Raises: UserError for what is not [prompt, output].
    """
    texts = [] if isinstance(sample, str) else _checked(sample)
    if len(texts) != 2:
        raise UserError(f"a sample for an encoder-decoder must be [prompt, output], not {sample!r:.60}")
    prompt = tokenizer(texts[0], truncation=True, max_length=max_length)["input_ids"]
    output = cut([DialogMessage(True, _closed(_encode(texts[1], tokenizer), tokenizer))], max_length, "right")
    return [DialogMessage(False, tuple(prompt)), *output]


def cut(messages: Sequence[DialogMessage], max_length: int, side: str) -> list[DialogMessage]:
    """The first `max_length` tokens (`side` "right") or the last ("left"), as messages; empty ones are left out."""
    if side == "left":
        reverse = [replace(message, tokens=message.tokens[::-1]) for message in reversed(messages)]
        kept = reversed(cut(reverse, max_length, "right"))
        return [replace(message, tokens=message.tokens[::-1]) for message in kept]
    starts = itertools.accumulate((len(message.tokens) for message in messages), initial=0)
    parts = [
        replace(message, tokens=message.tokens[: max(max_length - start, 0)])
        for message, start in zip(messages, starts, strict=False)
    ]
    return [part for part in parts if part.tokens]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> int:
    """The beginning-of-text token, for which end-of-sequence stands in where a tokenizer has none."""
    return _end(tokenizer) if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-sequence token to close a dialogue with: set tokenizer.eos_token")
    return int(tokenizer.eos_token_id)


def _closed(tokens: tuple[int, ...], tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """With end-of-sequence at the end, once."""
    end = _end(tokenizer)
    return tokens if tokens[-1:] == (end,) else (*tokens, end)


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _checked(dialogue: Iterable[str]) -> list[str]:
    if isinstance(dialogue, Mapping) or not isinstance(dialogue, Iterable):
        raise UserError(f"a dialogue must be a text or a list of texts (prompt, output, ...), not {dialogue!r:.60}")
    texts = list(dialogue)
    if not texts or len(texts) % 2:
        raise UserError(f"a dialogue must have an even number of texts (prompt, output, ...), not {len(texts)}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"a dialogue must be made of texts, but its entry {index} is {text!r}")
    return texts
