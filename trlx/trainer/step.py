"""One optimizer step of any method: microbatches weighed by their real tokens, timed, and their statistics pooled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trlx.trainer.engine import Engine, synchronise
from trlx.trainer.statistics import pool


@dataclass(frozen=True)
class Term:
    """One term of a step's loss: a coefficient times a mean over the tokens of all its microbatches on all ranks.

    Args:
        loss: of a microbatch the mean over its tokens, and flat statistics over the same tokens.
        loss_weight: how many tokens that are, a scalar.
        microbatches: this rank's, at least one. coefficient: of the mean.
    """

    loss: Callable[[Any], tuple[Tensor, dict[str, Any]]]
    loss_weight: Callable[[Any], Tensor]
    microbatches: Sequence[Any]
    coefficient: float = 1.0


def run_step(engine: Engine, terms: Sequence[Term]) -> dict[str, float]:
    """Step on the sum of the terms; every rank must call it with the same ones.

    Each microbatch of each term has a forward and a backward pass to itself, in order; the gradients add up. The last
    term must reach every weight that trains: DDP waits for all of them in the last backward pass.

    Returns: the statistics over all microbatches and ranks, with losses/total_loss, gradient_norm, skipped_steps and
    times in seconds.
    """
    start = time.perf_counter()
    passes = [_Passes(engine, term) for term in terms]
    norm = engine.optimizer_step([share for each in passes for share in each.shares()])
    synchronise(engine.accelerator.device)
    forward = sum(each.forward for each in passes)
    pooled = [pool(engine.accelerator, each.collected) for each in passes]
    return {
        **{name: value for stats in pooled for name, value in stats.items()},
        "losses/total_loss": sum(
            term.coefficient * stats["losses/total_loss"] for term, stats in zip(terms, pooled, strict=True)
        ),
        "gradient_norm": norm,
        "skipped_steps": float(engine.skipped),
        "time/forward": forward,
        "time/backward": time.perf_counter() - start - forward,
    }


class _Passes:
    """The passes of one term on this rank, and what they give: `collected` for `pool`, `forward` in seconds."""

    def __init__(self, engine: Engine, term: Term):
        self.term, self.device = term, engine.accelerator.device
        self.weights = [term.loss_weight(part).detach().double().to(self.device) for part in term.microbatches]
        self.total, self.most = _totals(engine, self.weights)
        self.collected: list[tuple[Tensor, dict[str, Any]]] = []
        self.forward = 0.0

    def shares(self) -> list[Callable[[], Tensor]]:
        """A function for each microbatch, equally many on every rank; see `Engine.optimizer_step`."""
        parts = self.term.microbatches
        # Ranks with fewer microbatches repeat one without weight, so that none waits for another.
        spare = [(parts[-1], self.weights[-1] * 0)] * (self.most - len(parts))
        return [functools.partial(self._share, *each) for each in [*zip(parts, self.weights, strict=True), *spare]]

    def _share(self, part: Any, weight: Tensor) -> Tensor:
        before = time.perf_counter()
        value, stats = self.term.loss(part)
        if len(self.collected) < len(self.term.microbatches):  # those that are repeated are known already
            self.collected.append((weight, {**stats, "losses/total_loss": value.detach()}))
        synchronise(self.device)
        self.forward += time.perf_counter() - before
        if weight <= 0:  # a loss may be 0/0 then, and has no say
            return value.nan_to_num() * 0
        # A loss that is not finite makes a gradient that is not, whatever its backward pass does: the step is skipped.
        finite = torch.where(value.isfinite(), 1.0, torch.nan).to(value.dtype)
        return value * (self.term.coefficient * weight / self.total).to(value.dtype) * finite


def _totals(engine: Engine, weights: list[Tensor]) -> tuple[Tensor, int]:
    """(the weights of all microbatches and ranks, at least 1; the most microbatches of any rank)."""
    mine = torch.stack([torch.stack(weights).sum(), weights[0].new_tensor(len(weights))])
    everyone = engine.accelerator.gather(mine.unsqueeze(0))
    return everyone[:, 0].sum().clamp(min=1), int(everyone[:, 1].max())
