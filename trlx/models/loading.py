"""The policy's weights and tokenizer, from a folder, a hub id or a bare config."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trlx.utils.pretrained import load_model, load_tokenizer, without_dropout


def load_causal_lm(source: Any, dtype: torch.dtype = torch.float32, **config_changes: Any) -> PreTrainedModel:
    """A causal language model with every dropout off and an explicit dtype.

    Args:
        source: folder, hub id, or a config object (then the weights are random).
        config_changes: fields of its config to set.

    Raises: UserError when there is nothing to load.
    """
    if isinstance(source, PreTrainedConfig):
        return AutoModelForCausalLM.from_config(without_dropout(source), dtype=dtype)
    return load_model(AutoModelForCausalLM, source, dtype, **config_changes)[0]


def load_policy_tokenizer(source: str, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer with a pad token. Raises: UserError when there is none or it has no EOS token."""
    tokenizer = load_tokenizer(source, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks come from lengths, so pads need no id of their own
    return tokenizer
