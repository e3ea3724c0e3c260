"""The model under plain PyTorch, DDP or DeepSpeed: one way to step, one way to read its weights.

Here, and only here, the wrappers' own averaging is undone, so that a loss which is a share of the global batch's mean
gives the same gradient whatever the number of microbatches and ranks.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.integrations import unset_hf_deepspeed_config

from trlx.utils.distributed import forget_shared_buffers, start_process_group
from trlx.utils.errors import UserError
from trlx.utils.peft_models import is_adapted
from trlx.utils.zero import master_weight, whole


def make_accelerator(n_minibatches: int, minibatch_size: int, max_grad_norm: float | None) -> Accelerator:
    """An Accelerator on all ranks.

    The DeepSpeed settings that must agree with the trainer are set here, whatever the launcher's file says about them.
    """
    start_process_group()
    accelerator = Accelerator()
    plugin = accelerator.state.deepspeed_plugin
    if plugin is None:
        accelerator.gradient_accumulation_steps = 1  # whatever the environment says: the loss is a share already
    else:
        # accelerate has it set whatever zero3_init_flag says, and models would then be sharded as they are loaded: the
        # reference and the critic could not be copied from them, nor a reward model be loaded on one rank.
        plugin.dschf = None
        unset_hf_deepspeed_config()
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = minibatch_size
        plugin.deepspeed_config["gradient_accumulation_steps"] = n_minibatches
        plugin.deepspeed_config["zero_allow_untested_optimizer"] = True
        # Left at "auto", accelerate would clip to 1.
        plugin.deepspeed_config["gradient_clipping"] = max_grad_norm or 0.0
        if "bf16" in plugin.deepspeed_config:  # else a step that is not a number would be taken
            plugin.deepspeed_config["bf16"]["check_grad_overflow"] = True
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
        self.is_sharded = self.is_deepspeed and accelerator.state.deepspeed_plugin.zero_stage == 3
        if self.is_sharded and any(is_adapted(part) for part in module.modules()):
            raise UserError(
                "model.peft_config: adapters cannot be exported under ZeRO stage 3: set zero_stage to 2 in the "
                "accelerate config"
            )
        if _offloads(accelerator) and not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            raise UserError(
                "with offload_optimizer_device optimizer.name must be adam or adamw: DeepSpeed has no other"
            )
        # The schedule is not handed over: accelerate would step it once a rank.
        self.scheduler = scheduler
        self.model, self.optimizer = accelerator.prepare(module, optimizer)
        if self.is_deepspeed:
            forget_shared_buffers()
        self.max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm
        self.skipped = 0  # steps in a row without a finite gradient
        self._is_whole = False

    @contextlib.contextmanager
    def whole(self, part: nn.Module) -> Iterator[None]:
        """Within the block, a part of the model runs on its own, without a word to other ranks; without gradient only.

        Under ZeRO stage 3 its weights are fetched once, so each device must hold them all, in the precision they train
        in, beside its shards; what is not of the part stays in pieces. A collective on entering. Elsewhere nothing
        happens, nor within another such block.
        """
        if not self.is_sharded or self._is_whole:
            yield
            return
        self._is_whole = True
        try:
            self.model.empty_partition_cache()  # type: ignore[operator]  # what training has left fetched
            with whole(part):
                yield
        finally:
            self._is_whole = False

    def optimizer_step(self, shares: Sequence[Callable[[], Tensor]]) -> float:
        """One optimizer step. A gradient that is not finite changes nothing, on any rank: its norm is the same on all.

        Args:
            shares: one a microbatch, equally many on every rank; each computes the microbatch's share of the global
                loss: the shares of all microbatches and ranks add up to it.

        Returns: the gradient's global norm before clipping; not finite when the step was skipped.
        """
        for index, share in enumerate(shares):
            last = index == len(shares) - 1
            # DDP adds up gradients over ranks in the last backward pass; DeepSpeed knows by itself what to do.
            with contextlib.nullcontext() if last or self.is_deepspeed else self._no_sync():
                self._backward(share(), last)
        norm = self._deepspeed_norm() if self.is_deepspeed else self._clip_and_step()
        self.scheduler.step()
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        return norm

    def _no_sync(self) -> contextlib.AbstractContextManager[None]:
        """accelerate's own does nothing with one rank, and DDP then waits for every weight in every backward pass."""
        if isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return self.accelerator.no_sync(self.model)

    def _backward(self, share: Tensor, last: bool) -> None:
        """DDP divides by ranks, DeepSpeed by ranks and the configured microbatches; the loss is a share already."""
        world = self.accelerator.num_processes
        if not self.is_deepspeed:
            self.accelerator.backward(share * world)
            return
        engine: Any = self.model
        engine.set_gradient_accumulation_boundary(is_boundary=last)
        engine.backward(share * world * engine.gradient_accumulation_steps())
        engine.step()  # at the boundary the optimizer steps; before it only the microbatch is counted

    def _clip_and_step(self) -> float:
        norm = float(self.accelerator.clip_grad_norm_(self.module.parameters(), self.max_grad_norm))
        if math.isfinite(norm) or self.accelerator.scaler is not None:  # the scaler skips and learns by itself
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def _deepspeed_norm(self) -> float:
        """DeepSpeed clips and skips within its own step, by the values given in `make_accelerator`."""
        norm = self.model.get_global_grad_norm()  # type: ignore[operator]
        return float(norm or 0.0)

    def master(self, parameter: nn.Parameter) -> Tensor:
        """The weight as the optimizer steps it, in float32 where precision is mixed; a collective under DeepSpeed."""
        return master_weight(parameter) if self.is_deepspeed else parameter.detach()

    def float32_state(self, part: nn.Module) -> dict[str, Tensor]:
        """The state dict of a part of the model in float32, from the master weights where precision is mixed.

        Every rank must call it; only the main rank gets an answer, on the CPU, the others an empty dict. Frozen weights
        are those the run used: rounded, where DeepSpeed trains in 16 bit.
        """
        masters = {}
        for parameter in part.parameters():
            whole = self.master(parameter)
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
