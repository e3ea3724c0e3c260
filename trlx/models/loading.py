"""The policy's weights and tokenizer, from a folder, a hub id or a bare config."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trlx.utils.pretrained import load_model, load_tokenizer, without_dropout


def load_language_model(
    source: Any, arch: str = "causal", dtype: torch.dtype = torch.float32, **config_changes: Any
) -> PreTrainedModel:
    """A language model with every dropout off and an explicit dtype.

    Args:
        source: folder, hub id, or a config object (then the weights are random).
        arch: "causal", or "seq2seq" for an encoder-decoder.
        config_changes: fields of its config to set.

    Raises: UserError when there is nothing to load.
    """
    auto_class = AutoModelForSeq2SeqLM if arch == "seq2seq" else AutoModelForCausalLM
    if isinstance(source, PreTrainedConfig):
        return auto_class.from_config(without_dropout(copy.deepcopy(source)), dtype=dtype)
    return load_model(auto_class, source, dtype, **config_changes)[0]


def load_policy_tokenizer(source: str, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer with a pad token. Raises: UserError when there is none or it has no EOS token."""
    tokenizer = load_tokenizer(source, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks come from lengths, so pads need no id of their own
    return tokenizer
