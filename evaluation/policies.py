"""Loading a policy to be judged, and letting go of it before the next one."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from trlx.utils.errors import UserError
from trlx.utils.pretrained import damaged_file, is_hub_id, load_model, require_vocabulary, require_whole


def require_model(name: str, path: str, remedy: str) -> None:
    """Check that there is a whole model at `path` before the minutes that other models take.

    Args:
        name: what to call it in the message. path: a folder with a config.json, or a hub id.
        remedy: what makes it, e.g. the command of a stage.

    Raises: UserError when `path` is neither, or a file in the folder is damaged.
    """
    if (Path(path) / "config.json").is_file():
        if damage := damaged_file(Path(path)):
            raise UserError(f"{damage}: {remedy}")
        return
    if Path(path).exists() or not is_hub_id(path):
        raise UserError(f"no {name} model in {path}: {remedy}")


def load_policy(path: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A causal language model in evaluation mode. Raises: UserError when it cannot be read."""
    model, missing = load_model(AutoModelForCausalLM, path, dtype, named_by="--models")
    require_whole(missing, path)
    return model.to(device).eval()


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """What results.json keeps of a model: its size, number format and the config's non-default entries."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "config": json.loads(model.config.to_json_string(use_diff=True)),
    }


def release_memory() -> None:
    """Give the memory of models that nothing refers to any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def require_fit(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
) -> None:
    """Check that the model knows its tokenizer's ids, and that the longest prompt and a summary fit into its positions.

    Raises: UserError naming the model and the options to change.
    """
    require_vocabulary(model.config, tokenizer, name)
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts)
    if limit is not None and longest + max_new_tokens > limit:
        raise UserError(
            f"{name} has {limit} positions, but the longest prompt has {longest} tokens and --max_new_tokens is "
            f"{max_new_tokens}: lower --max_length to {limit}"
        )
