"""The model under plain PyTorch, DDP or DeepSpeed: one way to step, one way to read its weights.

Here, and only here, the wrappers' own averaging is undone, so that a loss which is a share of the global batch's mean
gives the same gradient whatever the number of microbatches and ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trlx.utils.distributed import start_process_group
from trlx.utils.errors import UserError
from trlx.utils.zero import master_weight

T = TypeVar("T")


def make_accelerator(n_minibatches: int, minibatch_size: int, max_grad_norm: float | None) -> Accelerator:
    """An Accelerator that knows how many microbatches make an optimizer step.

    The DeepSpeed settings that must agree with the trainer are set here, whatever the launcher's file says about them.
    """
    start_process_group()
    accumulation = GradientAccumulationPlugin(num_steps=n_minibatches, sync_with_dataloader=False)
    accelerator = Accelerator(gradient_accumulation_plugin=accumulation)
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        if plugin.zero_stage == 3:
            raise UserError("PPO does not run under ZeRO stage 3 yet: set zero_stage to 2 in the accelerate config")
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = minibatch_size
        plugin.deepspeed_config["gradient_accumulation_steps"] = n_minibatches
        plugin.deepspeed_config["zero_allow_untested_optimizer"] = True
        # Left at "auto", accelerate would clip to 1.
        plugin.deepspeed_config["gradient_clipping"] = max_grad_norm or 0.0
    return accelerator


class Engine:
    """A wrapped model with its optimizer and schedule.

    Args:
        accelerator: from `make_accelerator`.
        module: the bare model. optimizer: over its trainable parameters. scheduler: of that optimizer.
        max_grad_norm: global gradient norm to clip to; None only measures it.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        max_grad_norm: float | None,
    ):
        self.accelerator, self.module = accelerator, module
        self.is_deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
        if _offloads(accelerator) and not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            raise UserError(
                "with offload_optimizer_device optimizer.name must be adam or adamw: DeepSpeed has no other"
            )
        # The schedule is not handed over: accelerate would step it once a rank.
        self.scheduler = scheduler
        self.model, self.optimizer = accelerator.prepare(module, optimizer)
        self.max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm

    def optimizer_step(self, microbatches: Iterable[T], loss: Callable[[T], Tensor]) -> float:
        """One optimizer step.

        Args:
            microbatches: as many as the accelerator was told.
            loss: a microbatch's share of the global loss: the shares of all microbatches and ranks add up to it.

        Returns: the gradient's global norm before clipping.
        """
        # The wrappers divide by ranks and by microbatches; the loss is a share already.
        undo = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        norm = 0.0
        for microbatch in microbatches:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(loss(microbatch) * undo)
                if self.accelerator.sync_gradients:
                    norm = self._clip()
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.scheduler.step()
        return norm

    def _clip(self) -> float:
        if self.is_deepspeed:  # it clips within its own step, by the value given in make_accelerator
            return float(self.model.get_global_grad_norm() or 0.0)
        return float(self.accelerator.clip_grad_norm_(self.module.parameters(), self.max_grad_norm))

    def float32_state(self, part: nn.Module) -> dict[str, Tensor]:
        """The state dict of a part of the model in float32, from the master weights where precision is mixed.

        Every rank must call it; only the main rank gets an answer, on the CPU, the others an empty dict. Frozen weights
        are those the run used: rounded, where DeepSpeed trains in 16 bit.
        """
        masters = {}
        for parameter in part.parameters():
            whole = master_weight(parameter) if self.is_deepspeed else parameter.detach()
            if self.accelerator.is_main_process:
                masters[id(parameter)] = whole.float().cpu()
        if not masters:
            return {}
        state = part.state_dict(keep_vars=True)
        return {name: masters.get(id(value), value.detach().cpu()) for name, value in state.items()}


def _offloads(accelerator: Accelerator) -> bool:
    """Whether DeepSpeed keeps the optimizer's state on the CPU, with an Adam of its own."""
    plugin = accelerator.state.deepspeed_plugin
    return plugin is not None and plugin.offload_optimizer_device not in (None, "none")


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that a clock read now means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
