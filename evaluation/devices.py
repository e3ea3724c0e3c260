"""Which device holds the reward model and which the policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from trlx.utils.errors import UserError

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Devices:
    """`str(devices)` is the line to say aloud."""

    reward: torch.device
    policy: torch.device
    why: str

    def __str__(self) -> str:
        return f"devices: reward model on {self.reward}, policy on {self.policy} ({self.why})"


def choose_devices(reward: str | None = None, policy: str | None = None) -> Devices:
    """Reward model on GPU 0 and policy on GPU 1; with one GPU both share it, with none both run on the CPU.

    Args:
        reward, policy: devices named by hand ("cpu", "cuda:2"); None chooses as above.

    Raises: UserError for a device that is not here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count >= 2:
        chosen = ("cuda:0", "cuda:1", "one GPU each")
    elif count == 1:
        chosen = ("cuda:0", "cuda:0", "one GPU here instead of two: they share it")
    else:
        chosen = ("cpu", "cpu", "no GPU here: they share the processor")
    why = "as asked" if reward or policy else chosen[2]
    return Devices(existing_device(reward or chosen[0], count), existing_device(policy or chosen[1], count), why)


def existing_device(name: str, count: int) -> torch.device:
    """The device called `name`, on a machine with `count` GPUs. Raises: UserError when it is not there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device '{name}': cpu, cuda, cuda:0, cuda:1, ...") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not supported: cpu, cuda, cuda:0, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"no device '{name}' here ({count} GPUs): leave the option out to choose by itself")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """ "float32", "bfloat16", "float16", or "auto": bfloat16 on a GPU that has it, else float32.

    Raises: UserError for any other name, and for float16 on a CPU.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in _DTYPES:
        raise UserError(f"unknown dtype '{name}': auto, {', '.join(_DTYPES)}")
    if name == "float16" and device.type == "cpu":
        raise UserError("dtype float16 is not for a CPU: use float32 or bfloat16")
    return _DTYPES[name]
