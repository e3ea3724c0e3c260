"""The config of a model to plan for, by folder or hub id. Left out: weights, which a plan needs none of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import published
from trlx.utils.errors import UserError

CONFIG, ADAPTER = "config.json", "adapter_config.json"


def config_of(name: str, option: str) -> tuple[Any, str]:
    """(a fresh config with every dropout off, a note on where it is from or "").

    Args:
        name: a folder or hub id. option: what named it, for messages.

    Raises: UserError for a model that cannot be read and whose sizes are not known, for an adapter and an
        encoder-decoder.
    """
    if name and (Path(name) / ADAPTER).exists() and not (Path(name) / CONFIG).exists():
        raise UserError(f"{option} {name}: an adapter, which the plan leaves out: name the model it belongs to")
    config, note = published.config_of(name, option)
    if config.is_encoder_decoder:
        raise UserError(f"{option} {name}: {config.model_type} is an encoder-decoder: the plan is for causal models")
    return config, note
