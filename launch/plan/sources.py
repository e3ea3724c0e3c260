"""The config of a model by folder or hub id; of a few well-known models also without a hub.

Left out: weights, which a plan needs none of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GPTNeoConfig

from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, without_dropout

CONFIG, ADAPTER = "config.json", "adapter_config.json"
# Layers, width, heads, as their config.json on the hub has them (vocabulary 50,257, 2,048 positions, window 256).
PUBLISHED = {
    "EleutherAI/gpt-neo-125M": (12, 768, 12),
    "EleutherAI/gpt-neo-1.3B": (24, 2048, 16),
    "EleutherAI/gpt-neo-2.7B": (32, 2560, 20),
}


def config_of(name: str, option: str) -> tuple[Any, str]:
    """(a fresh config with every dropout off, a note on where it is from or "").

    Args:
        name: a folder or hub id. option: what named it, for messages.

    Raises: UserError for a model that cannot be read and is not in `PUBLISHED`, for an adapter and an encoder-decoder.
    """
    if name and (Path(name) / ADAPTER).exists() and not (Path(name) / CONFIG).exists():
        raise UserError(f"{option} {name}: an adapter, which the plan leaves out: name the model it belongs to")
    try:
        config = load_config(name, option)
    except UserError as error:
        if name and Path(name).exists():
            raise
        known = {one.lower(): one for one in PUBLISHED}
        if name.lower() not in known:
            listed = ", ".join(PUBLISHED)
            raise UserError(f"{error}; sizes known without a hub: {listed}") from error
        published = known[name.lower()]
        return without_dropout(_gpt_neo(*PUBLISHED[published])), f"{name}: no hub here; the published sizes are taken"
    if config.is_encoder_decoder:
        raise UserError(f"{option} {name}: {config.model_type} is an encoder-decoder: the plan is for causal models")
    return config, ""


def _gpt_neo(layers: int, width: int, heads: int) -> GPTNeoConfig:
    return GPTNeoConfig(
        num_layers=layers,
        hidden_size=width,
        num_heads=heads,
        attention_types=[[["global", "local"], layers // 2]],
    )
