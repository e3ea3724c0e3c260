"""How a stage is started: the command line and environment of each, on this machine or as one of several.

With a C++ compiler and DeepSpeed, SFT and the reward model run under the `deepspeed` launcher and PPO under
`accelerate launch`; without, the same scripts run as one plain process, and that is said. Where there are several
machines these are the commands that each of them runs; who runs them there is `launch.pipeline`'s business.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import torch

from launch.running import run_stage
from tasks.run_folder import REPO
from trlx.utils.errors import UserError

__all__ = [
    "ALONE",
    "Machine",
    "Node",
    "free_port",
    "look_around",
    "ppo_command",
    "python_command",
    "run_stage",
    "stage_environment",
    "trainer_command",
    "without_deepspeed",
]

COMPILERS = ("c++", "g++", "clang++")
EXTENSIONS = REPO / ".cache" / "torch_extensions"


@dataclass(frozen=True)
class Machine:
    """What the launchers need to know of this machine."""

    processes: int  # ranks of a training stage
    deepspeed: bool
    reason: str  # why DeepSpeed is not used; empty when it is
    gpus: tuple[int, ...] = ()  # the ones to use, by the system's numbers; empty for the first ones


@dataclass(frozen=True)
class Node:
    """One machine's part in a job of several machines; the defaults are a job on this machine alone."""

    rank: int = 0
    count: int = 1
    address: str = "127.0.0.1"  # of the machine of rank 0, as the others know it
    port: int | None = None  # on that machine; None for a free one on this
    hostfile: Path | None = None  # DeepSpeed's list of the machines, which each of them can read


ALONE = Node()
PPO_SCRIPT = "trlx_gptneo_text_summarization.py"


def look_around(processes: int) -> Machine:
    """What can run here: at most one process a GPU, one process alone without DeepSpeed."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else processes
    if processes > gpus:
        print(f"{processes} processes were asked for and there are {gpus} GPUs: running {gpus}", flush=True)
        processes = gpus
    reason = without_deepspeed()
    return Machine(1 if reason else processes, not reason, reason, visible_gpus())


def visible_gpus() -> tuple[int, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES chooses by number; empty where it chooses none, or by other names."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return tuple(int(name) for name in names) if all(name.strip().isdecimal() for name in names) else ()


def without_deepspeed() -> str:
    """Why DeepSpeed cannot run here, or an empty string."""
    if util.find_spec("deepspeed") is None:
        return "DeepSpeed is not installed"
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name):
        return "there is no C++ compiler, which DeepSpeed's operations need"
    return ""


def free_port() -> int:
    """A port on loopback that nobody listens on, so that two runs on one machine do not meet.

    Below the range that systems hand out for outgoing connections (Linux: from 32768), lest one be taken by such a
    connection before the launcher gets there.

    Raises: UserError where none of many is free.
    """
    for _ in range(100):
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UserError("no free port between 20000 and 32000 on 127.0.0.1: end what listens there")


def python_command(module_or_script: Sequence[str]) -> list[str]:
    """A single process of this interpreter."""
    return [sys.executable, *module_or_script]


def trainer_command(machine: Machine, script: str, options: Sequence[str], node: Node = ALONE) -> list[str]:
    """SFT or reward model on one machine: under the `deepspeed` launcher, else a single process.

    Args:
        machine: the machine that the command is for. script: relative to the repository. options: of the script.
        node: which of several machines it is.
    """
    path = str(REPO / script)
    if not machine.deepspeed:
        return python_command([path, *options, "--deepspeed", "null"])
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_addr", node.address]
    launcher += ["--master_port", str(node.port or free_port())]
    if node.hostfile is not None:
        # Started on each machine by itself, which takes no ssh and no pdsh of DeepSpeed's.
        launcher += ["--hostfile", str(node.hostfile), "--no_ssh", "--node_rank", str(node.rank)]
    elif machine.gpus and torch.cuda.is_available():
        # With a number of processes DeepSpeed would take the first GPUs, whatever CUDA_VISIBLE_DEVICES says.
        launcher += ["--include", f"localhost:{','.join(map(str, machine.gpus[: machine.processes]))}"]
    else:
        launcher += ["--num_accelerators", str(machine.processes)]
    return [*launcher, path, *options]


def ppo_command(
    machine: Machine, config_file: str, options: Sequence[str], node: Node = ALONE, script: str = PPO_SCRIPT
) -> list[str]:
    """PPO, or another script that trains a policy, on one machine: under `accelerate launch`, else a single process.

    Args:
        machine: the machine that the command is for; every one runs as many processes.
        config_file: accelerate's, relative to the repository. options: of the script.
        node: which of several machines it is. script: relative to the repository.
    """
    path = str(REPO / script)
    if not machine.deepspeed:
        return python_command([path, *options])
    return [*accelerate_launcher(machine, config_file, node), path, *options]


def accelerate_launcher(machine: Machine, config_file: str, node: Node = ALONE) -> list[str]:
    """What comes before a script and its options; arguments as of `ppo_command`."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(REPO / config_file)]
    launcher += ["--main_process_port", str(node.port or free_port())]
    if node.count > 1:
        launcher += ["--num_machines", str(node.count), "--machine_rank", str(node.rank)]
        launcher += ["--main_process_ip", node.address, "--same_network"]
        # By default accelerate hands several machines over to pdsh where the file asks for DeepSpeed.
        launcher += ["--deepspeed_multinode_launcher", "standard"]
    return [*launcher, "--num_processes", str(machine.processes * node.count)]


def stage_environment(machine: Machine) -> dict[str, str]:
    """The environment of a stage: nothing fetched needlessly, processor threads shared among the ranks."""
    environment = dict(os.environ)
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    # pip's scripts beside this interpreter (ninja) must be found by DeepSpeed's builder.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    if not torch.cuda.is_available():
        threads = max(1, (os.cpu_count() or 1) // machine.processes)
        environment.setdefault("OMP_NUM_THREADS", str(threads))
        environment.setdefault("DS_ACCELERATOR", "cpu")
    environment.setdefault("TORCH_EXTENSIONS_DIR", str(EXTENSIONS))
    return environment
