"""What can be asked of a model that may have peft adapters, without importing peft."""

from __future__ import annotations

from typing import Any


def is_adapted(model: Any) -> bool:
    """Whether the model is peft's."""
    return type(model).__module__.partition(".")[0] == "peft"


def bare_model(model: Any) -> Any:
    """transformers' own model within peft's wrapper (with the adapters in its layers), or the model itself.

    peft's own `forward` hides its arguments.
    """
    return model.get_base_model() if is_adapted(model) else model


def learns_a_prompt(model: Any) -> bool:
    """Whether the adapters are virtual tokens before the prompt, which lengthen cache and mask, rather than weights."""
    return is_adapted(model) and model.active_peft_config.is_prompt_learning
