"""Plain texts as equal blocks of tokens: tokenised once, joined with the end of sequence, cut without a pad.

Blocks of one length make the mean over any number of them exact: all have equally many tokens to predict. Left out: a
cache on the disk; every rank tokenises all texts and holds 4 bytes a token, beside the
texts that its caller keeps.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trlx.pipeline.batch_tokenizer import BatchTokenizer, in_threads
from trlx.utils.errors import UserError


def pack(texts: Sequence[str], tokenizer: Any, length: int, least: int) -> Tensor:
    """Blocks of texts, each text followed by EOS; a text may span blocks, and the last partial block is dropped.

    Args:
        length: tokens of a block. least: blocks that are needed.

    Returns: (N, `length`) int32 ids on the CPU, N ≥ `least`.
    Raises: UserError for a text that is not text, a tokenizer without EOS, and fewer blocks.
    """
    stream = array("i")
    for ids in _tokens(texts, tokenizer):
        stream.extend(ids)
    count = len(stream) // length
    if count < least:
        raise _too_few(count, length, least)
    return torch.frombuffer(stream, dtype=torch.int32)[: count * length].view(count, length)


def require_blocks(texts: Sequence[str], tokenizer: Any, length: int, least: int) -> None:
    """The same check as `pack` has, on as many of the texts as are enough. Raises: UserError likewise."""
    tokens = 0
    for ids in _tokens(texts, tokenizer):
        tokens += len(ids)
        if tokens >= least * length:
            return
    raise _too_few(tokens // length, length, least)


def _tokens(texts: Sequence[str], tokenizer: Any) -> Iterator[list[int]]:
    """The ids of one text after the other, with EOS; an empty text gives none."""
    batched = BatchTokenizer(tokenizer)
    end = batched.eos_token_id
    if end is None:
        raise UserError("pretraining texts are joined with EOS, and the tokenizer has none: give it an eos_token")
    if isinstance(texts, str):
        raise UserError("pretraining texts must be a list of texts, not one text: put it in a list")
    for found in in_threads(batched.encode, _checked(texts)):
        yield from ([*tokens.ids, end] for tokens in found if len(tokens))


def _checked(texts: Sequence[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"pretraining text {index} must be text, not {type(text).__name__}: give a list of texts")
        yield text


def _too_few(count: int, length: int, least: int) -> UserError:
    return UserError(
        f"the pretraining texts fill {count} blocks of train.seq_length ({length}) tokens, and an optimizer step takes "
        f"{least}, one a sample on all ranks: give more texts, or lower train.seq_length or train.batch_size"
    )
