"""Starting the ranks, and noticing when they did not start as asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from trlx.utils.errors import EXIT_USER_ERROR, UserError
from trlx.utils.op_locks import share_operations

T = TypeVar("T")
# How long a rank waits for the others, who may wait for a reward function on the main rank (`train.reward_timeout`);
# NCCL's own ten minutes would end a run whose judge is slow.
COLLECTIVE_TIMEOUT = timedelta(hours=1)


def start_process_group() -> PartialState:
    """Join the process group that the launcher set up, on CPU when there is no GPU.

    accelerate under DeepSpeed on CPU otherwise takes every rank for the only one, and all train on the same data;
    so the CPU is asked for by name before any `Accelerator` is made, and the number of ranks is checked.

    Raises: UserError when the launcher started a different number of processes than accelerate sees.
    """
    expected, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and local > torch.cuda.device_count():
        raise UserError(
            f"{local} processes were asked for on a machine with {torch.cuda.device_count()} GPUs: "
            "lower --num_processes (accelerate) or --num_gpus (deepspeed)"
        )
    if "RANK" in os.environ:
        share_operations()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=COLLECTIVE_TIMEOUT)
    if state.num_processes != expected:
        raise UserError(
            f"the launcher started {expected} processes but accelerate sees {state.num_processes}: "
            "start with `accelerate launch --config_file configs/...` or `deepspeed`, as the README shows"
        )
    return state


def forget_shared_buffers() -> None:
    """Take the names of DeepSpeed's buffers away, 66 MB a rank, through which ranks on CPUs add up.

    DeepSpeed never does, and every run would leave them in the machine's memory. To be called once it has wrapped a
    model: every rank has them all open then, and they go with the last process, however that ends. A collective.
    """
    if torch.cuda.is_available() or not dist.is_initialized():
        return
    dist.barrier()
    parts = (os.getuid(), *(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "RANK")))
    Path("/dev/shm", "_".join(["deepspeed_allreduce_buffer", *map(str, parts)])).unlink(missing_ok=True)


def from_main_rank(act: Callable[[], T]) -> T:
    """Run `act` on the main rank; every rank returns its result.

    When it raises UserError the main rank raises it, which prints its one line, and the others exit with its code.
    A collective: every rank must call it. The result must pickle.
    """
    outcome: list[Any] = [None, None]
    if is_main_rank():
        try:
            outcome[0] = act()
        except UserError as error:
            outcome[1] = error
    if dist.is_initialized():
        dist.broadcast_object_list(outcome)
    if outcome[1] is not None and not is_main_rank():
        sys.exit(EXIT_USER_ERROR)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def is_main_rank() -> bool:
    """True on the process that writes files and prints, before or without a process group."""
    return int(os.environ.get("RANK", "0")) == 0
