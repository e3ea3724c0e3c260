"""Loading models and tokenizers from a folder or hub id: dtype explicit, dropout off, one-line errors."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from trlx.utils.errors import UserError


def load_tokenizer(path: str | os.PathLike[str], **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id; options go to `from_pretrained`.

    Raises: UserError when it cannot be read or has no EOS token.
    """
    _check_folder(path, needs="tokenizer_config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
    except (OSError, ValueError) as error:
        raise _cannot_load("tokenizer", path, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{path}: its tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    return tokenizer


def load_model(
    auto_class: Any, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Any, set[str]]:
    """A pretrained model with every dropout off.

    Args:
        auto_class: e.g. `AutoModelForCausalLM`.
        path: a folder or hub id.
        dtype: of the weights; never taken from the checkpoint's config.
        options: fields of its config to set first, e.g. `num_labels=1`; others go to transformers' `from_pretrained`.

    Returns: (model, names of weights that the checkpoint lacks and that were initialised anew).
    Raises: UserError when it cannot be read, or an option is neither's.
    """
    _check_folder(path, needs="config.json")
    hub = {name: options[name] for name in ("revision", "cache_dir", "token", "trust_remote_code") if name in options}
    try:
        config, others = AutoConfig.from_pretrained(str(path), return_unused_kwargs=True, **options)
        model, info = auto_class.from_pretrained(
            str(path), config=without_dropout(config), dtype=dtype, output_loading_info=True, **others, **hub
        )
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise _cannot_load("model", path, error) from error
    return model, set(info["missing_keys"])


def pop_dtype(options: dict[str, Any]) -> torch.dtype:
    """Take `dtype` (or its old name `torch_dtype`) out of loading options; float32 when there is none.

    Raises: UserError when it names no dtype.
    """
    given = [options.pop(name) for name in ("dtype", "torch_dtype") if name in options]
    dtype = getattr(torch, given[0], given[0]) if given and isinstance(given[0], str) else (given or [torch.float32])[0]
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"dtype must be float32, bfloat16 or float16, not {dtype!r}")
    return dtype


def require_positions(config: Any, length: int, option: str) -> None:
    """Refuse sequences longer than the model's position table.

    Args:
        config: the model's. length: tokens of the longest sequence. option: what sets it, for the message.

    Raises: UserError naming the option and what the model has.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise UserError(f"{option} is {length} but the model has {positions} positions: lower {option}")


def without_dropout(config: Any) -> Any:
    """The config with every dropout probability 0, in place.

    PPO compares log-probabilities between passes, which dropout would make differ; the other stages follow suit.
    """
    for name, value in vars(config).items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and name.endswith(("dropout", "pdrop", "dropout_rate")):
            setattr(config, name, 0.0)
    return config


def _check_folder(path: str | os.PathLike[str], needs: str) -> None:
    """A path that can be no hub id must be a folder that holds a model."""
    name = str(path)
    if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") > 1:
        if not os.path.isdir(name):
            raise UserError(f"{name}: no such folder; run the stage that writes it first, or name another model")
        if not os.path.exists(os.path.join(name, needs)):
            raise UserError(f"{name}: holds no finished model (no {needs}); finish the stage that writes it")


def _cannot_load(what: str, path: object, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path}: its {what} cannot be loaded ({reason}); name a model folder or a hub id in reach")
