"""Ending a run that a signal asked to stop, at a place from which it goes on as if it had never stopped.

Places are the boundaries of optimizer steps, and the batches of prompts within a round of rollouts. A round that is
broken off is thrown away, and the state of the boundary before it saved: during rollouts no weight moves, so what would
be lost is the generators' and counters' state, of which a copy is kept. The resumed run samples the same rollouts
again. An evaluation under way is finished; one that is due when the signal has come is left to the resumed run. Left
out: the signals themselves (`trlx.utils.signals`).
"""

from __future__ import annotations

import contextlib
import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.distributed as dist

from trlx.trainer.checkpoint_folder import RESUME_NAME
from trlx.utils import logging
from trlx.utils.generators import generator_states, restore_generators
from trlx.utils.signals import StopRequest

if TYPE_CHECKING:
    from trlx.trainer.accelerate_base_trainer import AccelerateRLTrainer

log = logging.get_logger(__name__)


class Stopped(SystemExit):
    """How training ends after a signal: with exit code 0 when there is a checkpoint to go on from."""


class Stopper:
    """Asks every rank whether one was told to stop, and ends them all together. Every rank must make each call.

    Args:
        trainer: whose state is saved; its `train.save_optimizer` says whether it can be.
    """

    def __init__(self, trainer: AccelerateRLTrainer):
        self.trainer, self.request = trainer, StopRequest()
        self._boundary: tuple[dict[str, Any], dict[str, Any]] | None = None  # state, generators

    @contextlib.contextmanager
    def before_next_step(self) -> Iterator[None]:
        """What happens between two optimizer steps and may take long: a stop within it goes back to where it began."""
        self._boundary = copy.deepcopy(self.trainer.state_dict()), generator_states()
        try:
            yield
        finally:
            self._boundary = None

    def between_batches(self) -> None:
        """End here, between two batches of rollouts, if any rank was asked to; only within `before_next_step`."""
        if self._boundary is not None and self._asked():
            state, generators = self._boundary
            restore_generators(generators)
            self._end(state)

    def after_step(self) -> None:
        """End here, right after an optimizer step, if any rank was asked to."""
        if self._asked():
            self._end(self.trainer.state_dict() | {"step_unfinished": True})

    def _asked(self) -> bool:
        asked = self.request.name is not None
        if self.trainer.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.trainer.accelerator.device)
        return bool(self.trainer.accelerator.reduce(flag, "sum").item())

    def _end(self, state: dict[str, Any]) -> NoReturn:
        trainer, train = self.trainer, self.trainer.config.train
        why = f"{self.request.name or 'a signal to another rank'}: training stops after step {trainer.iter_count}"
        if train.save_optimizer:
            folder = Path(train.checkpoint_dir) / RESUME_NAME
            trainer.checkpointer.save(folder, state, trainer.state_tensors())
            log.warning(f"{why}; {folder} goes on from there (train.resume_from_checkpoint: auto)")
        else:
            log.warning(f"{why}; nothing was saved to go on from, for train.save_optimizer is false")
        trainer.tracker.close()
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        raise Stopped(0 if train.save_optimizer else 128 + signal.SIGTERM)
