"""Generalized advantage estimation (Schulman et al. 2016, equations 11 to 16)."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns of finite responses; the value after the last real token is 0.

    δ_t = r_t + γ·V_{t+1} − V_t and A_t = δ_t + γλ·A_{t+1}, over real tokens only; returns are A_t + V_t.

    Args:
        rewards, values: (B, R); values[t] is V of the state before token t. Pads may hold anything.
        mask: (B, R), True = real response token; each row is True up to its length, then False.
        gamma: discount γ. lam: λ.

    Returns: (advantages, returns), both (B, R), 0 at pads.
    """
    zero = torch.zeros_like(values)
    rewards, values = torch.where(mask, rewards, zero), torch.where(mask, values, zero)
    next_advantage, next_value = zero[:, 0], zero[:, 0]
    reversed_advantages = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(mask[:, t], delta + gamma * lam * next_advantage, zero[:, 0])
        next_value = values[:, t]
        reversed_advantages.append(next_advantage)
    advantages = torch.stack(reversed_advantages[::-1], dim=1)
    return advantages, advantages + values
