"""Batches that are left out because a number in them is not finite: counted, and too many in a row end the run.

Every rank sees the same numbers, so all decide alike. Nothing that is not finite gets further than here: not into
weights and optimizer state (the step is not taken), not into running moments or the KL coefficient (the rollouts are
dropped before they are counted). Left out: the skipping of a step itself, which is `trlx.trainer.engine`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from trlx.utils.errors import UserError
from trlx.utils.logging import get_logger

OPTION = "train.max_skipped_steps"
log = get_logger(__name__)


class SkippedRollouts:
    """Counts batches of rollouts that were dropped, in all and in a row.

    Args:
        most: in a row, from which on the run ends.
    """

    def __init__(self, most: int):
        self.most, self.total, self.in_a_row = most, 0, 0

    def kept(self) -> None:
        """A batch was good."""
        self.in_a_row = 0

    def dropped(self, why: str, step: int) -> None:
        """A batch is left out. Raises: UserError when it is one too many in a row."""
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        if self.in_a_row >= self.most:
            raise UserError(
                f"{why}; so it was in {self.in_a_row} batches of rollouts in a row, the last after step {step}: "
                f"mend the reward function or look at the policy's samples, or raise {OPTION}"
            )
        log.warning(f"after step {step} a batch of rollouts is left out: {why}")

    def state_dict(self) -> dict[str, int]:
        """JSON-able, for a checkpoint."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.total, self.in_a_row = state.get("total", 0), state.get("in_a_row", 0)


def require_finite_steps(stats: Mapping[str, float], step: int, most: int) -> None:
    """Raises: UserError where the last `most` optimizer steps were skipped.

    Args:
        stats: of the last step, over all ranks. step: its number.
    """
    count = int(stats["skipped_steps"])
    if count < most:
        return
    what = "gradient" if math.isfinite(stats["losses/total_loss"]) else "loss"
    raise UserError(
        f"the {what} was not finite at step {step}, nor was it in the steps before, {count} in a row: lower "
        f"optimizer.kwargs.lr, train in bf16 or fp32, or go on from an earlier checkpoint ({OPTION} is {most})"
    )


def all_finite(accelerator: Accelerator, *tensors: Tensor) -> bool:
    """Whether every number on every rank is finite. A collective."""
    bad = torch.stack([(~tensor.isfinite()).any() for tensor in tensors]).any().float()
    return not bool(accelerator.reduce(bad, "sum").item())
