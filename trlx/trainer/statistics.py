"""Statistics of one optimizer step, over all its microbatches and all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

Statistics = Mapping[str, Tensor | float]


def pool(accelerator: Accelerator, parts: Sequence[tuple[Tensor, Statistics]]) -> dict[str, float]:
    """Statistics of microbatches as those of all their tokens together. Every rank must call it.

    Args:
        parts: (weight, statistics) of each microbatch of this rank, all under the same names. A name ending in "/min"
            or "/max" is an extreme, "x/std" a deviation around "x/mean", any other a mean over `weight` tokens.
    """
    names = sorted(parts[0][1])
    device = accelerator.device
    weights = torch.stack([torch.as_tensor(weight, dtype=torch.float64, device=device) for weight, _ in parts])
    table = torch.stack([_row(stats, names, device) for _, stats in parts])  # (parts, names)
    means = {name: table[:, i] for i, name in enumerate(names)}
    squares = torch.stack([_square(name, means) for name in names], dim=1)
    real = weights > 0  # a microbatch without tokens has no say, whatever it holds
    sums = torch.stack([_weighted(table, weights, real), _weighted(squares, weights, real)])
    sums = accelerator.reduce(sums, "sum") / accelerator.reduce(weights.sum(), "sum").clamp(min=1)
    extremes = torch.stack([_extremes(table, real), _extremes(-table, real)])
    extremes = accelerator.gather(extremes.unsqueeze(0)).max(dim=0).values
    pooled = {}
    for i, name in enumerate(names):
        if name.endswith("/max"):
            pooled[name] = extremes[0, i].item()
        elif name.endswith("/min"):
            pooled[name] = -extremes[1, i].item()
        elif name.endswith("/std"):
            mean = sums[0, names.index(f"{name[:-4]}/mean")]
            pooled[name] = (sums[1, i] - mean.square()).clamp(min=0).sqrt().item()
        else:
            pooled[name] = sums[0, i].item()
    return pooled


def _row(stats: Statistics, names: list[str], device: torch.device) -> Tensor:
    return torch.stack([torch.as_tensor(stats[name], dtype=torch.float64, device=device) for name in names])


def _square(name: str, means: Mapping[str, Tensor]) -> Tensor:
    """What a deviation adds up from: σ² + μ² of each part."""
    return means[name].square() + means[f"{name[:-4]}/mean"].square() if name.endswith("/std") else means[name]


def _weighted(table: Tensor, weights: Tensor, real: Tensor) -> Tensor:
    return (table[real] * weights[real].unsqueeze(1)).sum(dim=0)


def _extremes(table: Tensor, real: Tensor) -> Tensor:
    if not real.any():
        return torch.full_like(table[0], -torch.inf)
    return table[real].max(dim=0).values
