"""The policy's weights and tokenizer, from a folder, a hub id or a bare config."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation

from trlx.utils.pretrained import load_model, load_tokenizer, require_whole, without_dropout


def load_language_model(
    source: Any, arch: str = "causal", dtype: torch.dtype = torch.float32, **config_changes: Any
) -> PreTrainedModel:
    """A language model with every dropout off and an explicit dtype.

    Args:
        source: folder, hub id, or a config object (then the weights are random).
        arch: "causal", or "seq2seq" for an encoder-decoder.
        config_changes: fields of its config to set.

    Raises: UserError when there is nothing to load, or only a part of the weights.
    """
    auto_class = AutoModelForSeq2SeqLM if arch == "seq2seq" else AutoModelForCausalLM
    if isinstance(source, PreTrainedConfig):
        model = auto_class.from_config(without_dropout(copy.deepcopy(source)), dtype=dtype)
    else:
        model, missing = load_model(auto_class, source, dtype, named_by="model.model_path", **config_changes)
        require_whole(missing, source)
    fuse_activations(model)
    return model


def fuse_activations(model: nn.Module) -> None:
    """Let torch compute the tanh approximation of GELU in one pass; GPT-2, GPT-J and GPT-Neo spell it out in seven.

    The same function up to rounding (about 1e-7), with a fraction of the activations kept for the backward pass. It has
    no weights and is no part of the config, so what is saved is what it was.
    """
    for parent in model.modules():
        for name, module in parent.named_children():
            if type(module) is NewGELUActivation:
                setattr(parent, name, nn.GELU(approximate="tanh"))


def load_policy_tokenizer(source: str, **options: Any) -> PreTrainedTokenizerBase:
    """A tokenizer with a pad token. Raises: UserError when there is none or it has no EOS token."""
    tokenizer = load_tokenizer(source, named_by="tokenizer.tokenizer_path", **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks come from lengths, so pads need no id of their own
    return tokenizer
