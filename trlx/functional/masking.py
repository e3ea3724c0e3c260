"""Masks and masked statistics.

Mask polarity everywhere in this package: True marks a real element, False a pad.
"""

from __future__ import annotations

import torch
from torch import Tensor


def response_mask(response: Tensor, eos_token_id: int) -> Tensor:
    """The real tokens of generated responses: all up to and including the first end-of-sequence token.

    Args:
        response: (B, R) token ids, right-padded with anything after the first `eos_token_id`.
        eos_token_id: the id that ends a response.

    Returns: (B, R) bool, True = real response token.
    """
    is_eos = response.eq(eos_token_id)
    eos_before = is_eos.long().cumsum(dim=1) - is_eos.long()
    return eos_before.eq(0)


def position_ids(attention_mask: Tensor) -> Tensor:
    """(B, T) positions that count real tokens from 0, whatever the padding side; pads before the first get 0.

    GPT-Neo, GPT-2 and OPT number positions from the left edge when a plain forward is not told otherwise, which moves
    left-padded rows.
    """
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def last_real_index(mask: Tensor) -> Tensor:
    """(B,) index of the last True of each row of a (B, R) mask; 0 for a row with none."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (positions * mask).max(dim=1).values


def masked_sum(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum over True elements. Pads may hold anything, not-a-number included."""
    kept = torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return kept.sum() if dim is None else kept.sum(dim=dim)


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean over True elements; 0 where there is none."""
    count = mask.sum() if dim is None else mask.sum(dim=dim)
    return masked_sum(values, mask, dim) / count.clamp(min=1)


def masked_moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(count, sum, sum of squares) over True elements, in float64: what ranks add up before `mean_and_variance`."""
    wide = values.double()
    return mask.sum().double(), masked_sum(wide, mask), masked_sum(wide.square(), mask)


def mean_and_variance(count: Tensor, total: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance from summed moments; (0, 0) for none."""
    count = count.clamp(min=1)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def whiten(values: Tensor, mask: Tensor, mean: Tensor, variance: Tensor, shift_mean: bool = True) -> Tensor:
    """(values − mean) / sqrt(variance + 1e-8) at True elements, 0 at pads.

    Args:
        values: (B, R); mask: (B, R), True = real.
        mean, variance: scalars over every real element of all ranks (`masked_moments`, `mean_and_variance`).
        shift_mean: False adds the mean back (Huang et al. 2024, "The N+ implementation details", detail 24).
    """
    centred = (values - mean.to(values.dtype)) * torch.rsqrt(variance.to(values.dtype) + 1e-8)
    if not shift_mean:
        centred = centred + mean.to(values.dtype)
    return torch.where(mask, centred, torch.zeros_like(centred))


def masked_spread(values: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """mean, min, max and (population) std over True elements, scalars; 0, ∞, −∞ and 0 where there is none."""
    mean, variance = mean_and_variance(*masked_moments(values.detach(), mask))
    infinite = torch.full((), torch.inf, dtype=values.dtype, device=values.device)
    low, high = torch.where(mask, values.detach(), infinite), torch.where(mask, values.detach(), -infinite)
    return {"mean": mean, "min": low.min(), "max": high.max(), "std": variance.sqrt()}
