"""The objectives of implicit language Q-learning (Snell et al. 2022, arXiv 2206.11871), as sums over actions.

An action is a token of an output; its state is the position before it. Sums, not means: the caller divides by the
actions of every microbatch and rank of the optimizer step. Only real actions are looked at; pads may hold anything.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def at_positions(values: Tensor, positions: Tensor) -> Tensor:
    """(B, N, H) rows of `values` (B, T, H) at `positions` (B, N)."""
    return values.gather(1, positions.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def of_tokens(values: Tensor, tokens: Tensor) -> Tensor:
    """(B, N) float32 entries of `values` (B, N, V) at the ids `tokens` (B, N)."""
    return values.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).float()


def bellman_targets(rewards: Tensor, next_values: Tensor, goes_on: Tensor, gamma: float) -> Tensor:
    """r_t + γ V(s_{t+1}), with V = 0 after the last action; (B, A), no gradient.

    Args:
        rewards, next_values: (B, A). goes_on: (B, A) bool, True = the state after the action has an action itself.
    """
    return (rewards.float() + gamma * torch.where(goes_on, next_values.float(), 0.0)).detach()


def q_loss_sum(q: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Σ_t (Q(s_t, a_t) − target_t)², the temporal-difference loss of one Q head.

    Args:
        q, targets: (B, A). mask: (B, A), True = real action.
    """
    return (q - targets)[mask].square().sum()


def expectile_loss_sum(values: Tensor, target_q: Tensor, mask: Tensor, tau: float) -> Tensor:
    """Σ_t |τ − 1(u < 0)| u² with u = Q_target(s_t, a_t) − V(s_t): V becomes the τ-expectile of Q over actions.

    Args:
        values, target_q: (B, A); no gradient reaches `target_q`. mask: (B, A), True = real action.
        tau: ½ is the mean, 1 the maximum.
    """
    gap = (target_q.detach() - values)[mask]
    return (torch.where(gap >= 0, tau, 1.0 - tau) * gap.square()).sum()


def token_loss_sum(scores: Tensor, tokens: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ_t w_t · −log softmax(scores_t)[token_t].

    With Q values for scores it is the conservative term (Kumar et al. 2020), which keeps Q low for tokens the data do
    not hold; with logits and `awac_weights` the advantage-weighted behaviour cloning of the policy.

    Args:
        scores: (B, A, V). tokens: (B, A) ids. mask: (B, A), True = real action. weights: (B, A), 1 by default.
    """
    losses = F.cross_entropy(scores[mask].float(), tokens[mask], reduction="none")
    return losses.sum() if weights is None else (losses * weights[mask]).sum()


def awac_weights(target_q: Tensor, values: Tensor, beta: float) -> Tensor:
    """exp(β (Q_target − V)), (B, A), no gradient (Nair et al. 2020, arXiv 2006.09359, equation 13)."""
    return torch.exp(beta * (target_q - values)).detach()


def steered_logits(logits: Tensor, target_qs: list[Tensor], values: Tensor, beta: float) -> Tensor:
    """log π(a|s) + β (min_i Q_target,i(s, a) − V(s)): the logits that are sampled from (section 4.3).

    Args:
        logits: (..., V) of the language model. target_qs: each (..., V). values: (..., 1).

    Returns: (..., V) float32.
    """
    q = torch.stack([target.float() for target in target_qs]).amin(dim=0)
    return torch.log_softmax(logits.float(), dim=-1) + beta * (q - values.float())


def polyak_(targets: list[Tensor], sources: list[Tensor], alpha: float) -> None:
    """target ← α · source + (1 − α) · target, in place, without gradient."""
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.lerp_(source.to(target.dtype), alpha)
