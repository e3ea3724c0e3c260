"""Ragged rows of token ids as rectangles, with the masks that say what is real."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def left_pad(
    rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """(ids (B, T), attention mask (B, T) long, 1 = real) with pads before each row."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_token_id] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask
