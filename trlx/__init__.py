"""RLHF for language models: an engine with trlX's API, written anew for today's torch, transformers and accelerate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trlx.trlx import train
    from trlx.utils import logging

__all__ = ["logging", "train"]


def __getattr__(name: str) -> Any:
    """Load `train` on first use: the functions and configurations below this package need none of its trainers."""
    if name == "train":
        from trlx.trlx import train

        return train
    if name == "logging":
        from trlx.utils import logging

        return logging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
