"""Configs of a few well-known models, as the hub's config.json has them, for where no hub is reached.

Left out: weights and tokenizers, which nothing but the hub has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GPT2Config, GPTNeoConfig, OPTConfig

from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_config, without_dropout


def _gpt_neo(layers: int, width: int, heads: int) -> GPTNeoConfig:
    # vocabulary 50,257, 2,048 positions and a window of 256 are the class's own defaults
    return GPTNeoConfig(
        num_layers=layers,
        hidden_size=width,
        num_heads=heads,
        attention_types=[[["global", "local"], layers // 2]],
    )


def published_config(name: str) -> Any | None:
    """A fresh config of a model of `PUBLISHED`, whatever the case of its name; else None."""
    known = {one.lower(): make for one, make in _PUBLISHED.items()}
    make = known.get(name.lower())
    return None if make is None else make()


_PUBLISHED = {
    "EleutherAI/gpt-neo-125M": lambda: _gpt_neo(12, 768, 12),
    "EleutherAI/gpt-neo-1.3B": lambda: _gpt_neo(24, 2048, 16),
    "EleutherAI/gpt-neo-2.7B": lambda: _gpt_neo(32, 2560, 20),
    "facebook/opt-350m": lambda: OPTConfig(
        vocab_size=50272,
        hidden_size=1024,
        word_embed_proj_dim=512,
        ffn_dim=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        do_layer_norm_before=False,
    ),
    "gpt2": GPT2Config,
}
PUBLISHED = tuple(_PUBLISHED)


def config_of(name: str, named_by: str) -> tuple[Any, str]:
    """(a config with every dropout off, a note on where it is from or "").

    Args:
        name: a folder or hub id. named_by: the option that it is from, for messages.

    Raises: UserError for a folder that cannot be read, and for a hub id that cannot and is not in `PUBLISHED`.
    """
    try:
        return load_config(name, named_by), ""
    except UserError as error:
        if name and Path(name).exists():
            raise
        config = published_config(name)
        if config is None:
            raise UserError(f"{error}; sizes known without a hub: {', '.join(PUBLISHED)}") from error
        return without_dropout(config), f"{name}: no hub here; the published sizes are taken"
