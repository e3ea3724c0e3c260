"""The exponential moving average of the policy's weights: a smoother policy than the last step's, kept beside it.

After every optimizer step average ← d · average + (1 − d) · weights, in float32, from the master weights where
precision is mixed (Polyak & Juditsky 1992; DeepSpeed-Chat averages its actor so). It starts at the weights themselves,
so there is no bias to correct. A step that is skipped changes nothing, the average neither. Training never looks at it.
Left out: value heads and critics, which no one generates with; ZeRO stage 3, whose weights no rank holds whole.

Only the main rank keeps it: 4 bytes a weight that trains, on its device. Under ZeRO-2 each step fetches the master
weights for it, one weight at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trlx.trainer.engine import Engine
from trlx.utils.errors import UserError

OPTION = "train.ema_decay"


class WeightAverage:
    """Of one model's weights that train; every rank must make each call.

    Args:
        decay: d, from 0 (the weights themselves) to below 1. engine: knows the master weights.
        policy: the bare language model, after `engine` has wrapped it.

    Raises: UserError under ZeRO stage 3, and where no weight of the policy trains.
    """

    def __init__(self, decay: float, engine: Engine, policy: nn.Module):
        if engine.is_sharded:
            raise UserError(f"{OPTION} does not work under ZeRO stage 3: set zero_stage to 2 in the accelerate config")
        self.decay, self.engine, self.policy = decay, engine, policy
        # A tied weight comes once; the order is the same on every rank.
        self.trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
        if not self.trained:
            raise UserError(
                f"{OPTION}: no weight of the policy trains: set model.num_layers_unfrozen to 1 or more, or -1"
            )
        self.average: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin at the present weights."""
        self.average = {name: master.to(torch.float32, copy=True) for name, master in self._masters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights in that an optimizer step has left, unless it was skipped."""
        if self.engine.skipped:
            return
        for name, master in self._masters():
            self.average[name].lerp_(master.float(), 1.0 - self.decay)

    def _masters(self) -> Iterator[tuple[str, Tensor]]:
        """The weights that the optimizer steps, on the main rank; the others only take part in fetching them."""
        for name, weight in self.trained.items():
            master = self.engine.master(weight)
            if self.engine.accelerator.is_main_process:
                yield name, master

    def policy_state(self) -> dict[str, Tensor]:
        """The policy's state dict on the CPU, with the average in place of what trains; empty but on the main rank."""
        if not self.average:
            return {}
        weights = {id(weight): self.average[name].cpu() for name, weight in self.trained.items()}
        for weight in self.policy.parameters():
            if id(weight) not in weights:
                weights[id(weight)] = weight.detach().float().cpu()
        state = self.policy.state_dict(keep_vars=True)  # a tied weight under each of its names, and one tensor
        return {name: weights.get(id(value), value.detach().cpu()) for name, value in state.items()}

    def load(self, average: Mapping[str, Tensor]) -> None:
        """Take back what `average` was, of the same model; on the main rank."""
        for name, value in average.items():
            self.average[name].copy_(value)
