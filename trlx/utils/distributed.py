"""Starting the ranks, and noticing when they did not start as asked."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState

from trlx.utils.errors import UserError


def start_process_group() -> PartialState:
    """Join the process group that the launcher set up, on CPU when there is no GPU.

    accelerate under DeepSpeed on CPU otherwise takes every rank for the only one, and all train on the same data;
    so the CPU is asked for by name before any `Accelerator` is made, and the number of ranks is checked.

    Raises: UserError when the launcher started a different number of processes than accelerate sees.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != expected:
        raise UserError(
            f"the launcher started {expected} processes but accelerate sees {state.num_processes}: "
            "start with `accelerate launch --config_file configs/...` or `deepspeed`, as the README shows"
        )
    return state


def is_main_rank() -> bool:
    """True on the process that writes files and prints, before or without a process group."""
    return int(os.environ.get("RANK", "0")) == 0
