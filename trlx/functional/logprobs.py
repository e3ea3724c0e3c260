"""Log-probabilities and entropy of the distribution that tokens are sampled from: softmax(logits / temperature).

Logits are the largest tensors of a step, (B, R, V), and these functions are limited by memory traffic: they go over
them a few rows at a time, which stay in the processor's cache, and the gradient is computed in one new tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Numbers handled at once: on a CPU what its cache holds, on a GPU what costs little memory.
_CACHE_NUMBERS, _DEVICE_NUMBERS = 1 << 18, 1 << 27


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(logits / T) at given tokens; ∂/∂logits = (onehot − softmax) / T."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float) -> Tensor:
        normalizer = _normalizer(logits, temperature)
        ctx.save_for_backward(logits, tokens, normalizer)
        ctx.temperature = temperature
        chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).float() / temperature
        return chosen - normalizer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, tokens, normalizer = ctx.saved_tensors
        scale = gradients[0] / ctx.temperature
        result = torch.empty_like(logits)
        in_place = logits.dtype == torch.float32  # else the differences must be taken before they are rounded
        for part in _parts(logits):
            scaled = _scaled(logits[part], ctx.temperature)
            out = torch.sub(scaled, normalizer[part].unsqueeze(-1), out=result[part] if in_place else None)
            out.exp_().scatter_add_(-1, tokens[part].unsqueeze(-1), -torch.ones_like(scale[part]).unsqueeze(-1))
            out.mul_(-scale[part].unsqueeze(-1))
            if not in_place:
                result[part] = out
        return result, None, None


def logprobs_of_tokens(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """log π(token) in nats, before any top-k or top-p cut.

    Args:
        logits: (..., V), the prediction of `tokens` at the same index.
        tokens: (...) ids.
        temperature: the sampling temperature.

    Returns: (...) float32. The softmax runs in float32 whatever the logits' dtype.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    result: Tensor = _TokenLogprobs.apply(rows, tokens.reshape(-1), temperature)  # type: ignore[no-untyped-call]
    return result.view(tokens.shape)


@torch.no_grad()
def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(...) Shannon entropy in nats of softmax(logits / temperature), from (..., V) logits; without a gradient."""
    rows = logits.reshape(-1, logits.shape[-1])
    normalizer = _normalizer(rows, temperature)
    expected = torch.empty_like(normalizer)
    for part in _parts(rows):
        scaled = _scaled(rows[part], temperature)
        probabilities = (scaled - normalizer[part].unsqueeze(-1)).exp_()
        expected[part] = torch.linalg.vecdot(probabilities, scaled)
    return (normalizer - expected).view(logits.shape[:-1])


def _normalizer(rows: Tensor, temperature: float) -> Tensor:
    """(N,) log Σ exp(logits / T), float32."""
    return torch.cat([_scaled(rows[part], temperature).logsumexp(-1) for part in _parts(rows)])


def _scaled(rows: Tensor, temperature: float) -> Tensor:
    return rows.float() if temperature == 1.0 else rows.float() / temperature


def _parts(rows: Tensor) -> Iterator[slice]:
    numbers = _CACHE_NUMBERS if rows.device.type == "cpu" else _DEVICE_NUMBERS
    size = max(numbers // rows.shape[-1], 1)
    return (slice(start, start + size) for start in range(0, max(len(rows), 1), size))
