"""Token ids of a prompt with its response, as the reward model reads them in training and in scoring alike.

Prompt and response are tokenised apart and joined. What does not fit is taken from the prompt. Left out: the wording of
prompts and summaries, which the tasks own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trlx.pipeline.batch_tokenizer import BatchTokenizer
from trlx.pipeline.quick_cut import CutPrompt, quick_cut
from trlx.utils.errors import UserError

PROMPT_TAIL = "\nTL;DR:"


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text, no special tokens added."""
    # Not verbose: a text longer than the model takes is about to be cut, which needs no warning.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def response_ids(tokenizer: Any, response: str, ended: bool) -> list[int]:
    """The ids of a response as it follows its prompt (leading space included), and EOS when it `ended`."""
    return token_ids(tokenizer, response) + (_end(tokenizer) if ended else [])


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def prompt_ids(tokenizer: Any, prompt: str, room: int, cut_prompt: CutPrompt | None = None) -> list[int]:
    """The ids of a prompt in at most `room` tokens.

    A prompt that is too long goes through `cut_prompt`. Without one, or when that cannot cut far enough, tokens are
    taken from the end of the post: the head of the prompt and a closing `TL;DR:` line stay.
    """
    ids = token_ids(tokenizer, prompt)
    if len(ids) <= room:
        return ids
    if cut_prompt is not None and room > 0:
        try:
            ids = token_ids(tokenizer, cut_prompt(prompt, tokenizer, room))
        except UserError:  # its fixed parts alone are longer than the room
            ids = []
        if 0 < len(ids) <= room:
            return ids
    tail_text = PROMPT_TAIL if prompt.endswith(PROMPT_TAIL) else ""
    tail = token_ids(tokenizer, tail_text) if tail_text else []
    head = token_ids(tokenizer, prompt.removesuffix(tail_text))[: max(0, room - len(tail))]
    return (head + tail)[max(0, len(head) + len(tail) - max(0, room)) :]


def encode(
    tokenizer: Any, prompt: str, response: str, ended: bool, max_length: int, cut_prompt: CutPrompt | None = None
) -> list[int]:
    """Prompt + response (+ EOS when it ended), at most `max_length` tokens.

    A response that is longer than that by itself loses its last tokens, and with them its EOS.
    """
    answer = response_ids(tokenizer, response, ended)[:max_length]
    return prompt_ids(tokenizer, prompt, max_length - len(answer), cut_prompt) + answer


def encode_pair(
    tokenizer: Any, prompt: str, chosen: str, rejected: str, max_length: int, cut_prompt: CutPrompt | None = None
) -> tuple[list[int], list[int]]:
    """Both sides of a pair after one and the same prompt, each at most `max_length` tokens and ending in EOS."""
    sides = [response_ids(tokenizer, text, ended=True)[:max_length] for text in (chosen, rejected)]
    shared = prompt_ids(tokenizer, prompt, max_length - max(map(len, sides)), cut_prompt)
    return shared + sides[0], shared + sides[1]


def encode_pair_batch(
    tokenizer: BatchTokenizer,
    prompts: Sequence[str],
    chosen: Sequence[str],
    rejected: Sequence[str],
    max_length: int,
    cut_prompt: CutPrompt | None = None,
) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, chosen, rejected) ids of many pairs; joined they are what `encode_pair` gives for each."""
    answers = [(tokens.ids + _end(tokenizer))[:max_length] for tokens in tokenizer.encode([*chosen, *rejected])]
    sides = list(zip(answers[: len(prompts)], answers[len(prompts) :], strict=True))
    encoded = []
    for prompt, tokens, (good, bad) in zip(prompts, tokenizer.encode(prompts), sides, strict=True):
        room = max_length - max(len(good), len(bad))
        fits = len(tokens) <= room
        shared = tokens.ids if fits else prompt_ids(tokenizer, prompt, room, cut_prompt and _quick(cut_prompt))
        encoded.append((shared, good, bad))
    return encoded


def _quick(cut_prompt: CutPrompt) -> CutPrompt:
    """The same cuts with fewer tokenisations."""

    def cut(prompt: str, tokenizer: BatchTokenizer, room: int) -> str:
        (tokens,) = tokenizer.encode([prompt], offsets=True)
        tail = len(PROMPT_TAIL) if prompt.endswith(PROMPT_TAIL) else 0
        return quick_cut(cut_prompt, tokenizer, prompt, tokens, room, tail)[0]

    return cut


def right_pad(rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Ragged ids → (ids (B, T) right-padded, mask (B, T) long, 1 = real)."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_token_id] * (width - len(row))] for row in rows], dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(width)[None, :] < lengths[:, None]).long()
