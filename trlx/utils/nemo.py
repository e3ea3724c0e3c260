"""What a script written for trlX's NeMo backend is told."""

from __future__ import annotations


def nemo_is_absent(name: str, instead: str) -> ImportError:
    """The error for a NeMo name.

    Args:
        name: what the script asked for. instead: what does the same here.
    """
    return ImportError(
        f"{name} needs NVIDIA NeMo, which this package does not support: use {instead} with DeepSpeed "
        "(accelerate launch --config_file configs/..., ZeRO stage 2 or 3) for models that do not fit one GPU"
    )
