"""One optimizer step of any method: microbatches weighed by their real tokens, timed, and their statistics pooled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trlx.trainer.engine import Engine, synchronise
from trlx.trainer.statistics import pool

LossFn = Callable[[Any], tuple[Tensor, dict[str, Any]]]


def run_step(
    engine: Engine, loss: LossFn, loss_weight: Callable[[Any], Tensor], microbatches: Sequence[Any]
) -> dict[str, float]:
    """Step on this rank's microbatches; every rank must call it.

    Args:
        loss: the mean over a microbatch's tokens, and flat statistics over the same tokens.
        loss_weight: how many tokens that are, a scalar.

    Returns: the statistics over all microbatches and ranks, with losses/total_loss, gradient_norm, skipped_steps and
    times in seconds.
    """
    start = time.perf_counter()
    device = engine.accelerator.device
    weights = [loss_weight(part).detach().double().to(device) for part in microbatches]
    total, most = _totals(engine, weights)
    collected: list[tuple[Tensor, dict[str, Any]]] = []
    forward = 0.0

    def share(part: Any, weight: Tensor) -> Tensor:
        nonlocal forward
        before = time.perf_counter()
        value, stats = loss(part)
        if len(collected) < len(microbatches):  # those that are repeated are known already
            collected.append((weight, {**stats, "losses/total_loss": value.detach()}))
        synchronise(device)
        forward += time.perf_counter() - before
        if weight <= 0:  # a loss may be 0/0 then, and has no say
            return value.nan_to_num() * 0
        # A loss that is not finite makes a gradient that is not, whatever its backward pass does: the step is skipped.
        return value * (weight / total).to(value.dtype) * torch.where(value.isfinite(), 1.0, torch.nan).to(value.dtype)

    # Ranks with fewer microbatches repeat one without weight, so that none waits for another.
    spare = [(microbatches[-1], weights[-1] * 0)] * (most - len(microbatches))
    parts = [*zip(microbatches, weights, strict=True), *spare]
    norm = engine.optimizer_step([functools.partial(share, *each) for each in parts])
    synchronise(device)
    return {
        **pool(engine.accelerator, collected),
        "gradient_norm": norm,
        "skipped_steps": float(engine.skipped),
        "time/forward": forward,
        "time/backward": time.perf_counter() - start - forward,
    }


def _totals(engine: Engine, weights: list[Tensor]) -> tuple[Tensor, int]:
    """(the weights of all microbatches and ranks, at least 1; the most microbatches of any rank)."""
    mine = torch.stack([torch.stack(weights).sum(), weights[0].new_tensor(len(weights))])
    everyone = engine.accelerator.gather(mine.unsqueeze(0))
    return everyone[:, 0].sum().clamp(min=1), int(everyone[:, 1].max())
