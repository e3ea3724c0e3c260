"""Models and tokenizers from folders, hub ids or bare configs, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from trlx.utils.errors import UserError


def load_causal_lm(source: Any, dtype: torch.dtype = torch.float32, **options: Any) -> PreTrainedModel:
    """A causal language model with every dropout off and an explicit dtype.

    Args:
        source: folder, hub id, or a config object (then the weights are random).
        options: further keyword arguments of `from_pretrained`.

    Raises: UserError when there is nothing to load.
    """
    if isinstance(source, PreTrainedConfig):
        return AutoModelForCausalLM.from_config(without_dropout(source), dtype=dtype)
    try:
        config = without_dropout(AutoConfig.from_pretrained(source))
        return AutoModelForCausalLM.from_pretrained(source, config=config, dtype=dtype, **options)
    except (OSError, ValueError) as error:
        raise UserError(_explain("model", source, error)) from error


def load_tokenizer(source: str, padding_side: str = "left", **options: Any) -> Tokenizer:
    """A tokenizer that pads on `padding_side`. Raises: UserError when there is none or it has no EOS token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side=padding_side, **options)
    except (OSError, ValueError) as error:
        raise UserError(_explain("tokenizer", source, error)) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer {source} has no end-of-sequence token, so no response could end")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks come from lengths, so pads need no id of their own
    return tokenizer


def without_dropout(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config with each dropout probability 0: log-probabilities must not depend on chance."""
    for name, value in config.to_dict().items():
        if ("drop" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


def _explain(what: str, source: object, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    if Path(str(source)).is_dir():
        return f"{source} holds no {what} that loads: {reason}"
    return (
        f"no {what} at {source}: it is neither a local folder nor reachable on the hub; "
        f"give a folder that exists, or check the name and the connection ({reason})"
    )
