"""Which machines and devices a run's stages get, refused where there are not that many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from launch.local import ALONE, Machine, Node, look_around, visible_gpus
from launch.pipeline.hosts import Host, read_hostfile
from launch.pipeline.options import Request
from launch.pipeline.probe import devices
from trlx.utils.errors import UserError


@dataclass(frozen=True)
class Machines:
    """Where a run's stages run."""

    hosts: list[Host]  # of the hostfile; empty for this machine alone
    trainers: Machine  # what every machine runs of SFT and the reward models
    ppo: Machine
    address: str  # that the others meet the first machine at

    @property
    def count(self) -> int:
        """How many machines."""
        return max(1, len(self.hosts))

    def nodes(self, hostfile: Path) -> list[Node]:
        """Each machine's part; `hostfile` is where all of them can read the list."""
        if not self.hosts:
            return [ALONE]
        return [Node(rank, self.count, self.address, hostfile=hostfile) for rank in range(self.count)]


def choose_machines(request: Request) -> Machines:
    """What the mode asks for. Raises: UserError for more processes than devices, or without what they need."""
    options = request.options
    if options.hostfile is not None:
        return _several(read_hostfile(options.hostfile), options.master_address)
    there, what = devices()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    wanted = 1 if request.mode == "sgl_gpu" else options.processes or max(1, gpus)
    for name, count in (("processes", wanted), ("ppo_processes", options.ppo_processes or 1)):
        if count > there:
            raise UserError(f"--{name} {count}: there {'is' if there == 1 else 'are'} {what} here: choose no more")
    machine = look_around(wanted)
    if request.mode == "sgl_gpu" and gpus:
        machine = dataclasses.replace(machine, gpus=(visible_gpus() or (0,))[:1])
    ppo = dataclasses.replace(machine, processes=min(options.ppo_processes or wanted, machine.processes))
    return Machines([], machine, ppo, ALONE.address)


def _several(hosts: Sequence[Host], address: str | None) -> Machines:
    reason = look_around(1).reason
    if reason:
        raise UserError(f"several machines need DeepSpeed, and {reason}: install it, or use sgl_mach")
    machine = Machine(hosts[0].slots, True, "")
    return Machines(list(hosts), machine, machine, address or hosts[0].name)


def narrowed(mode: str, machine: Machine, environment: dict[str, str]) -> dict[str, str]:
    """The environment of the stages: sgl_gpu sees one GPU, lest the reward model take a second."""
    if mode != "sgl_gpu" or not machine.gpus:
        return environment
    return {**environment, "CUDA_VISIBLE_DEVICES": str(machine.gpus[0])}


def accelerate_file(machine: Machine, count: int) -> str:
    """accelerate's YAML file for PPO, relative to the repository."""
    if not torch.cuda.is_available():
        return "configs/accelerate/cpu.yaml"
    several = machine.processes * count > 1
    return "configs/default_accelerate_config.yaml" if several else "configs/accelerate/one_gpu.yaml"
