"""Which DeepSpeed config a Trainer stage (SFT, reward model) trains with, made fit for this machine.

Under ZeRO stage 3 the models of a stage are loaded whole and cut up when training begins: the reward model grows its
embeddings, frozen weights are kept in float32, and each rank loads a finished model for itself. Left out: loading in
pieces, so the machine's memory must hold a float32 copy of the model for each of its ranks meanwhile.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers.integrations import unset_hf_deepspeed_config

from launch.local import without_deepspeed
from trlx.utils.errors import UserError

STAGES = range(4)
SHARDED = 3


def settle_deepspeed(path: str | None) -> tuple[dict[str, Any] | None, str | None]:
    """The DeepSpeed config to train with, or None for the plain Trainer, and a line to print about it.

    Without a GPU the offload sections are taken out: they would only compile DeepSpeed's CPU Adam, while torch's AdamW
    already runs there.

    Raises: UserError when the file is missing, not JSON, or names a stage that there is not.
    """
    if path is None:
        return None, None
    config = _read_config(path)
    lacking = _lacks()
    if lacking:
        return None, f"training without DeepSpeed: {lacking}"
    zero = config.get("zero_optimization", {})
    if is_sharded_by(config):
        # Else the Trainer would leave the model out of its checkpoints, and write the shards twice.
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    offloaded = [key for key in ("offload_optimizer", "offload_param") if key in zero]
    if offloaded and not torch.cuda.is_available():
        for key in offloaded:
            zero.pop(key)
        return config, "no GPU: DeepSpeed runs without CPU offload, with torch's AdamW"
    return config, None


def is_sharded_by(config: dict[str, Any] | None) -> bool:
    """Whether such a config cuts the weights up, as ZeRO stage 3 does."""
    return config is not None and config.get("zero_optimization", {}).get("stage", 0) == SHARDED


def _read_config(path: str) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--deepspeed {path}: {error.strerror}; name a DeepSpeed JSON file or null") from error
    except json.JSONDecodeError as error:
        raise UserError(f"--deepspeed {path}, line {error.lineno}: not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--deepspeed {path}: not UTF-8 text: save the file as UTF-8") from error
    if not isinstance(config, dict):
        raise UserError(f"--deepspeed {path}: holds no JSON object; name a DeepSpeed config")
    zero = config.get("zero_optimization", {})
    if not isinstance(zero, dict) or zero.get("stage", 0) not in STAGES:
        raise UserError(f"--deepspeed {path}: zero_optimization must be an object whose stage is 0, 1, 2 or 3")
    return config


def _lacks() -> str | None:
    """What keeps DeepSpeed from running here, or None."""
    if "RANK" not in os.environ:
        return "no launcher started this process (start it with `deepspeed` to have it)"
    return without_deepspeed() or None


def load_models_whole() -> None:
    """From here on `from_pretrained` loads models whole. transformers, once told of ZeRO stage 3, would cut them up.

    To be called after whatever tells it: `TrainingArguments`, and making an `Accelerator`.
    """
    unset_hf_deepspeed_config()
