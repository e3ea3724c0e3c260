"""The small network on top of a transformer's hidden states."""

from __future__ import annotations

import torch
from torch import nn


def make_head(hidden: int, outputs: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear(H, 2H), ReLU, Linear(2H, outputs): trlX's head, for values (1 output) and Q values (V outputs)."""
    return nn.Sequential(
        nn.Linear(hidden, 2 * hidden, dtype=dtype), nn.ReLU(), nn.Linear(2 * hidden, outputs, dtype=dtype)
    )
