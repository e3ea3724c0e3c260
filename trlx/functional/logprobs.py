"""Log-probabilities and entropy of the distribution that tokens are sampled from: softmax(logits / temperature)."""

from __future__ import annotations

import torch
from torch import Tensor


def logprobs_of_tokens(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """log π(token) in nats, before any top-k or top-p cut.

    Args:
        logits: (B, R, V), the prediction of `tokens` at the same index.
        tokens: (B, R) ids.
        temperature: the sampling temperature.

    Returns: (B, R) float32. The softmax runs in float32 whatever the logits' dtype.
    """
    scaled = logits.float() / temperature
    return scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(B, R) Shannon entropy in nats of softmax(logits / temperature), from (B, R, V) logits."""
    scaled = logits.float() / temperature
    return scaled.logsumexp(-1) - (torch.softmax(scaled, dim=-1) * scaled).sum(-1)
