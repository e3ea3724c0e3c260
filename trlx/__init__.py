"""RLHF for language models: an engine with trlX's API, written anew for today's torch, transformers and accelerate."""

from trlx.trainer import BaseRLTrainer
from trlx.trlx import train

__all__ = ["BaseRLTrainer", "train"]
