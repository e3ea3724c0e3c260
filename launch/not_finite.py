"""Optimizer steps of a Trainer stage (SFT, reward model) whose gradient is not finite are skipped; many end the stage.

transformers' Trainer would take them, and every weight would be lost. Wired by `trainer.add_callback(SkipNotFinite(
stage))`. DeepSpeed and fp16's loss scaler skip by themselves: what they skipped is counted here, but for fp16, which
finds its scale by skipping. Left out: bf16 under ZeRO-1 and 2 looks only where the config has
`bf16.check_grad_overflow`; ZeRO-3 always looks.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from launch.stage import Stage
from trlx.utils.errors import UserError

MOST = 10


class SkipNotFinite(TrainerCallback):
    """Counts skipped steps in `run.json`, as `skipped_steps`. Gradients are those of all ranks, so all decide alike.

    Args:
        stage: the run. most: skipped steps in a row, at which the stage ends.
    """

    def __init__(self, stage: Stage, most: int = MOST):
        self.stage, self.most = stage, most
        self.total, self.in_a_row, self.dropped = 0, 0, False

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        self.dropped = False
        if args.deepspeed is not None or args.fp16:
            return
        weights = [weight for weight in keywords["model"].parameters() if weight.grad is not None]
        if not torch.nn.utils.get_total_norm([weight.grad for weight in weights]).isfinite():
            self.dropped = True
            for weight in weights:
                weight.grad = None  # upon which an optimizer leaves weight and state alone

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **keywords: Any
    ) -> None:
        if args.fp16 or not (self.dropped or keywords["optimizer"].step_was_skipped):
            self.in_a_row = 0
            return
        step = state.global_step + 1
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        self.stage.note(skipped_steps=self.total)
        if self.in_a_row >= self.most:
            raise UserError(
                f"the gradient was not finite at step {step}, nor was it in the steps before, {self.in_a_row} in a "
                "row: lower --learning_rate, or go on from an earlier checkpoint with --resume true"
            )
        self.stage.say(f"step {step} is skipped: its gradient is not finite")
