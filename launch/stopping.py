"""How a Trainer stage (SFT, reward model) stops when a signal asks it to: after an optimizer step, saved, with code 0.

A trainer adds it after the callbacks that look after checkpoints, and trains within its `request`. An evaluation
that is due at that step still takes place, so that the resumed run, which would not make up for it, is the same as one
that was never stopped. Left out: the policy stages, which the engine stops (`trlx.trainer.stopping`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trlx.utils.signals import StopRequest


class StopOnSignal(TrainerCallback):
    """Ends the process with exit code 0 once a checkpoint is written that the stage resumes from.

    Args:
        say: prints a line on the main rank.
    """

    def __init__(self, say: Callable[[str], None]):
        self.say, self.request, self.stopping = say, StopRequest(), False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        if self._asked(args.device) and state.global_step < state.max_steps:  # the last step ends the stage anyway
            self.stopping = control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any) -> None:
        if not self.stopping:
            return
        why = self.request.name or "a signal to another rank"
        self.say(f"{why}: training stops after step {state.global_step}; --resume auto goes on from there")
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        raise SystemExit(0)

    def _asked(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop. A collective."""
        flag = torch.tensor(float(self.request.name is not None), device=device)
        if dist.is_initialized():
            dist.all_reduce(flag)
        return bool(flag.item())
