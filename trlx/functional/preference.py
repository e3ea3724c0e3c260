"""Losses of a reward model learned from pairs: the better response should score higher.

Left out: margins, label smoothing and rankings of more than two.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pairwise_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Mean of −log σ(chosen − rejected): Bradley–Terry, Stiennon et al. 2020 (arXiv 2009.01325), section 3.4.

    Args:
        chosen: (B,) score of the preferred response of each pair.
        rejected: (B,) score of the other.

    Returns: a scalar in nats, computed in float32.
    """
    return -F.logsigmoid(chosen.float() - rejected.float()).mean()


def first_divergence(chosen_ids: Tensor, rejected_ids: Tensor, chosen_mask: Tensor, rejected_mask: Tensor) -> Tensor:
    """Marks the positions from the first token in which a pair differs to the end of its longer response.

    Args:
        chosen_ids, rejected_ids: (B, T) token ids, right-padded.
        chosen_mask, rejected_mask: (B, T) True or 1 = real token.

    Returns: (B, T) bool, True = the position counts. A row is all False when both sides are the same.
    """
    chosen_real, rejected_real = chosen_mask.bool(), rejected_mask.bool()
    either = chosen_real | rejected_real
    # A position real on one side only is a difference, whatever id fills the other side.
    differs = ((chosen_ids != rejected_ids) & either) | (chosen_real != rejected_real)
    return (differs.long().cumsum(dim=1) > 0) & either


def first_divergence_loss(chosen: Tensor, rejected: Tensor, counts: Tensor) -> Tensor:
    """trlX's reward-model loss: −log σ(chosen − rejected), mean over a pair's counted tokens, then over pairs.

    Past the end of the shorter response its scores are those the model gives to padding, as in trlX.

    Args:
        chosen, rejected: (B, T) score after each token.
        counts: (B, T) bool from `first_divergence`, True = counts. Rows without a True count as no pair.

    Returns: a scalar in nats, float32; 0 (with a gradient of 0) when no row counts.
    """
    per_token = -F.logsigmoid(chosen.float() - rejected.float()) * counts
    tokens = counts.sum(dim=1)
    per_pair = per_token.sum(dim=1) / tokens.clamp(min=1)
    return per_pair.sum() / (tokens > 0).sum().clamp(min=1)


def pair_accuracy(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(B,) float32: 1 where the preferred response scores higher, ½ for a tie, else 0."""
    return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
