"""The settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trlx.data.method_configs import MethodConfig, register_method


@dataclass
@register_method
class SFTConfig(MethodConfig):
    """Supervised fine-tuning: the likelihood of given outputs.

    Args:
        name: "SFTConfig".
        gen_kwargs: transformers' generation options for evaluation; a list of values is a sweep.
    """

    gen_kwargs: dict[str, Any]
