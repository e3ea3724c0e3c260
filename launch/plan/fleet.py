"""What there is to train on: `4x24GB`, so many devices of so much memory each."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psutil
import torch

from trlx.utils.errors import UserError

GB = 10**9
_UNITS = {"GB": GB, "GIB": 2**30, "MB": 10**6, "MIB": 2**20, "TB": 10**12}
_FLEET = re.compile(r"(\d+)\s*x\s*(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.IGNORECASE)
# Not for tensors. On a GPU: CUDA's own (context, kernels, communication), and what the allocator cannot use for being
# in pieces. On a CPU: Python and the packages, in every process.
CUDA_OWN, CUDA_SHARE, CPU_OWN = 10**9, 0.95, 8 * 10**8
LARGEST = 10**6


@dataclass(frozen=True)
class Fleet:
    """Devices of one machine.

    Args:
        devices: GPUs, or processes on CPUs. bytes: of each. gpu: whether they are GPUs.
        host: bytes of the machine's own memory.
    """

    devices: int
    bytes: int
    gpu: bool
    host: int

    @property
    def usable(self) -> int:
        """Bytes of a device that tensors can have."""
        return int(CUDA_SHARE * (self.bytes - CUDA_OWN)) if self.gpu else self.bytes - CPU_OWN

    @property
    def host_usable(self) -> int:
        """Bytes of the machine's memory that offloaded tensors can have."""
        return self.host - self.devices * CPU_OWN

    def __str__(self) -> str:
        one, several = ("GPU", "GPUs") if self.gpu else ("CPU process", "CPU processes")
        return f"{self.devices} {one if self.devices == 1 else several} of {self.bytes / GB:g} GB"


def read_fleet(gpus: str | None, cpus: str | None, host: str | None) -> Fleet:
    """The devices that the options name; this machine's where they name none.

    Raises: UserError for what is no fleet, for both kinds at once, and for sizes that make no sense.
    """
    if gpus is not None and cpus is not None:
        raise UserError("--gpus and --cpus are two plans: give one of them")
    memory = _size(host, "--host_memory") if host is not None else psutil.virtual_memory().total
    if gpus is not None:
        fleet = Fleet(*_fleet(gpus, "--gpus"), gpu=True, host=memory)
    elif cpus is not None:
        count, size = _fleet(cpus, "--cpus")
        fleet = Fleet(count, size, gpu=False, host=count * size)
    elif torch.cuda.is_available():
        smallest = min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
        fleet = Fleet(torch.cuda.device_count(), smallest, gpu=True, host=memory)
    else:
        fleet = Fleet(1, memory, gpu=False, host=memory)
    if fleet.usable <= 0:
        own = CUDA_OWN if fleet.gpu else CPU_OWN
        raise UserError(f"{gpus or cpus}: {own / GB:g} GB of a device are not for tensors: name larger ones")
    return fleet


def _fleet(text: str, option: str) -> tuple[int, int]:
    found = _FLEET.fullmatch(text.strip())
    if not found:
        raise UserError(f"{option} '{text}' is not understood: write COUNTxSIZE, as in 4x24GB")
    count = int(found.group(1))
    if not 1 <= count <= LARGEST:
        raise UserError(f"{option} '{text}': {count} devices make no sense: 1 or more, as in 4x24GB")
    return count, _size(f"{found.group(2)}{found.group(3)}", option)


def _size(text: str, option: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if not found or found.group(2).upper() not in _UNITS:
        raise UserError(f"{option} '{text}' is not understood: write a size as in 24GB (GB, GiB, MB, MiB, TB)")
    size = int(float(found.group(1)) * _UNITS[found.group(2).upper()])
    if not 0 < size <= LARGEST * GB:
        raise UserError(f"{option} '{text}': that size makes no sense: write one as in 24GB")
    return size
