"""Dialogues as token ids: who said what, cut to length, and batches whose labels are the outputs alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import BatchEncoding, PreTrainedTokenizerBase

from trlx.pipeline import BaseRolloutStore
from trlx.utils.errors import UserError

IGNORED = -100  # a label that no loss looks at


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
    bos, eos = _ends(tokenizer)
    if max_length < 2:
        raise UserError(f"max_length is {max_length}: a dialogue needs room for at least 2 tokens")
    if isinstance(dialogue, str):
        messages = [DialogMessage(False, (bos,)), DialogMessage(True, _encode(dialogue, tokenizer))]
    else:
        texts = _checked(dialogue)
        messages = [DialogMessage(i % 2 == 1, _encode(text, tokenizer)) for i, text in enumerate(texts)]
    if messages[-1].tokens[-1:] != (eos,):
        messages[-1] = replace(messages[-1], tokens=(*messages[-1].tokens, eos))
    kept = cut(messages, max_length, tokenizer.truncation_side)
    if kept[0].is_output:
        return [DialogMessage(False, (bos,)), *cut(kept, max_length - 1, tokenizer.truncation_side)]
    return kept


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


def _ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """(beginning-of-text, end-of-sequence); the latter stands in where a tokenizer has no beginning."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-sequence token to close a dialogue with: set tokenizer.eos_token")
    eos = int(tokenizer.eos_token_id)
    return (eos if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)), eos


def _encode(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _checked(dialogue: Iterable[str]) -> list[str]:
    texts = list(dialogue)
    if not texts or len(texts) % 2:
        raise UserError(f"a dialogue must have an even number of texts (prompt, output, ...), not {len(texts)}")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"a dialogue must be made of texts, but its entry {index} is {text!r}")
    return texts


class DialogStore(BaseRolloutStore):
    """Dialogues to be learned from.

    Args:
        dialogs: from `tokenize_dialogue`. tokenizer: its pad token fills batches, on the right.

    Attributes:
        history: a dict a dialogue: input_ids (T,), attention_mask (T,) and labels (T,), which are the ids of outputs
            and -100 elsewhere. Labels are aligned with the ids: a causal model's loss shifts them by one.
    """

    def __init__(self, dialogs: Iterable[Sequence[DialogMessage]], tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        self.tokenizer = tokenizer
        self.history = [_labelled(dialog) for dialog in dialogs]

    def create_loader(self, batch_size: int, shuffle: bool = False, **options: Any) -> DataLoader:
        """A loader of batches with `input_ids`, `attention_mask` (1 = real) and `labels`, all (B, T) long.

        Args:
            options: further ones of torch's DataLoader, e.g. drop_last, sampler, batch_sampler.
        """
        if "batch_sampler" not in options:
            options |= {"batch_size": batch_size, "shuffle": shuffle}
        return DataLoader(self, collate_fn=self.collate, **options)

    def collate(self, rows: Sequence[dict[str, Tensor]]) -> BatchEncoding:
        """Rows of `history` as a batch, padded on the right: by length, so that the pad id may also be a real one's."""
        return pad_rows(rows, int(self.tokenizer.pad_token_id or 0))


def pad_rows(rows: Sequence[dict[str, Tensor]], pad_token_id: int) -> BatchEncoding:
    """Dicts of 1-d tensors as one of (B, T), padded on the right; the mask with 0, the labels with -100."""
    fillers = {"attention_mask": 0, "labels": IGNORED}
    return BatchEncoding(
        {name: pad_sequence([row[name] for row in rows], True, fillers.get(name, pad_token_id)) for name in rows[0]}
    )


def _labelled(dialog: Sequence[DialogMessage]) -> dict[str, Tensor]:
    ids = [token for message in dialog for token in message.tokens]
    labels = [token if message.is_output else IGNORED for message in dialog for token in message.tokens]
    return {
        "input_ids": torch.tensor(ids, dtype=torch.long),
        "attention_mask": torch.ones(len(ids), dtype=torch.long),
        "labels": torch.tensor(labels, dtype=torch.long),
    }
