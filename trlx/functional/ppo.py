"""The clipped PPO objectives (Schulman et al. 2017, equations 7 and 9), as sums over tokens.

Sums, not means: the caller divides by the real tokens of every microbatch and rank of the optimizer step, so that
neither the microbatch size nor the number of ranks changes the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trlx.functional.masking import masked_sum


def policy_loss_sum(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_t max(−A_t ρ_t, −A_t clip(ρ_t, 1 ± ε)) with ρ_t = exp(log π − log π_old).

    Args:
        logprobs, old_logprobs, advantages: (B, R). mask: (B, R), True = real response token.
        cliprange: ε.

    Returns: (loss sum, scalar; ratio (B, R), 1 at pads; clipped (B, R) bool, True where the clip decides the maximum).
    """
    log_ratio = torch.where(mask, logprobs - old_logprobs, torch.zeros_like(logprobs))
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - cliprange, 1.0 + cliprange)
    return masked_sum(torch.maximum(plain, clipped), mask), ratio, (clipped > plain) & mask


def value_loss_sum(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange_value: float
) -> tuple[Tensor, Tensor]:
    """½ Σ_t max((V_t − R_t)², (clip(V_t, V_old,t ± ε) − R_t)²).

    Args:
        values, old_values, returns: (B, R). mask: (B, R), True = real response token.
        cliprange_value: ε.

    Returns: (loss sum, scalar; clipped (B, R) bool, True where the clip decides the maximum).
    """
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    values, old_values, returns = (torch.where(mask, x, zero) for x in (values, old_values, returns))
    near = torch.maximum(torch.minimum(values, old_values + cliprange_value), old_values - cliprange_value)
    plain, clipped = (values - returns).square(), (near - returns).square()
    return 0.5 * masked_sum(torch.maximum(plain, clipped), mask), (clipped > plain) & mask


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(R − V) / Var(R) over real tokens: 1 perfect, 0 no better than the mean or without variance."""
    kept_returns, residual = returns[mask], (returns - values)[mask]
    variance = kept_returns.var(unbiased=False)
    if kept_returns.numel() == 0 or variance == 0:
        return torch.zeros((), device=values.device)
    return 1.0 - residual.var(unbiased=False) / variance
