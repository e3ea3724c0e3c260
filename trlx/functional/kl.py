"""Estimates of KL(π ‖ π_ref) from samples of π, and the controller of its coefficient.

Names k1, k2, k3 follow Schulman, "Approximating KL divergence" (2020): with log-ratio d = log π − log π_ref of a token
sampled from π, k1 = d (unbiased), k2 = d²/2, k3 = e^(−d) − 1 + d (unbiased, never negative).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trlx.functional.masking import last_real_index

KLPenalty = Literal["kl", "abs", "mse"]


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token log π − log π_ref in nats, shape kept."""
    return logprobs - ref_logprobs


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token exp(−d) − 1 + d with d = log π − log π_ref, in nats, shape kept; ≥ 0."""
    log_ratio = logprobs - ref_logprobs
    return torch.expm1(-log_ratio) + log_ratio


def penalty(logprobs: Tensor, ref_logprobs: Tensor, kind: KLPenalty) -> Tensor:
    """What a token's reward loses, before β, shape kept: "kl" k1 = d, "abs" |d|, "mse" k2 = d²/2, as TRL names them.

    Of the three k1 alone is in the mean the KL; it may be negative. The others are 0 only where both agree: they pull
    towards the reference from both sides, tokens that have become less likely too.
    """
    log_ratio = k1(logprobs, ref_logprobs)
    return {"kl": log_ratio, "abs": log_ratio.abs(), "mse": log_ratio.square() / 2}[kind]


def kl_shaped_rewards(
    scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float, kind: KLPenalty = "kl"
) -> tuple[Tensor, Tensor]:
    """r_t = −β·penalty_t, plus the score on the last real response token (Ziegler et al. 2019, equation 2).

    Args:
        scores: (B,) one score a response, or (B, R) dense scores, one a token.
        logprobs, ref_logprobs: (B, R) nats.
        mask: (B, R), True = real response token.
        kl_coef: β. kind: of `penalty`.

    Returns: (rewards (B, R), 0 at pads; k1 (B, R), 0 at pads).
    """
    zero = torch.zeros_like(logprobs)
    kl = torch.where(mask, k1(logprobs, ref_logprobs), zero)
    cost = kl_coef * torch.where(mask, penalty(logprobs, ref_logprobs, kind), zero)
    if scores.dim() == 2:
        return torch.where(mask, scores, zero) - cost, kl
    terminal = zero.scatter(1, last_real_index(mask).unsqueeze(1), scores.to(zero.dtype).unsqueeze(1))
    return torch.where(mask, terminal, zero) - cost, kl


def update_kl_coef(kl_coef: float, kl: float, target: float | None, horizon: float, n: int) -> float:
    """The proportional controller of Ziegler et al. 2019, equation 3; unchanged when `target` is None.

    β ← β · (1 + clip(kl / target − 1, ±0.2) · n / horizon)

    Args:
        kl_coef: β now.
        kl: mean over responses of Σ_t k1_t, in nats, all ranks.
        target: the wanted KL in nats; None keeps β fixed.
        horizon: samples over which the controller acts fully.
        n: samples (all ranks) since the last update.
    """
    if target is None:
        return kl_coef
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * n / horizon)
