"""How a stage is started on this machine: the command line and environment of each, with and without DeepSpeed.

With a C++ compiler and DeepSpeed, SFT and the reward model run under the `deepspeed` launcher and PPO under
`accelerate launch`; without, the same scripts run as one plain process, and that is said. Left out: several machines.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import torch

from tasks.run_folder import REPO
from trlx.utils.errors import UserError

COMPILERS = ("c++", "g++", "clang++")
EXTENSIONS = REPO / ".cache" / "torch_extensions"


@dataclass(frozen=True)
class Machine:
    """What the launchers need to know of this machine."""

    processes: int  # ranks of a training stage
    deepspeed: bool
    reason: str  # why DeepSpeed is not used; empty when it is


def look_around(processes: int) -> Machine:
    """What can run here: at most one process a GPU, one process alone without DeepSpeed."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else processes
    if processes > gpus:
        print(f"{processes} processes were asked for and there are {gpus} GPUs: running {gpus}", flush=True)
        processes = gpus
    reason = without_deepspeed()
    return Machine(1 if reason else processes, not reason, reason)


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


def trainer_command(machine: Machine, script: str, options: Sequence[str]) -> list[str]:
    """SFT or reward model: under the `deepspeed` launcher, else a single process."""
    path = str(REPO / script)
    if not machine.deepspeed:
        return python_command([path, *options, "--deepspeed", "null"])
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--master_addr", "127.0.0.1"]
    launcher += ["--master_port", str(free_port())]
    return [*launcher, "--num_accelerators", str(machine.processes), path, *options]


def ppo_command(machine: Machine, config_file: str, options: Sequence[str]) -> list[str]:
    """PPO: under `accelerate launch`, else a single process."""
    path = str(REPO / "trlx_gptneo_text_summarization.py")
    if not machine.deepspeed:
        return python_command([path, *options])
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(REPO / config_file)]
    launcher += ["--main_process_port", str(free_port())]
    return [*launcher, "--num_processes", str(machine.processes), path, *options]


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


def remove_stale_locks(environment: dict[str, str]) -> None:
    """A lock that a killed compiler left behind makes every later process wait for ever."""
    for lock in Path(environment["TORCH_EXTENSIONS_DIR"]).glob("**/lock"):
        lock.unlink()


def run_stage(command: Sequence[str], environment: dict[str, str], log: Path) -> None:
    """Run a command with its output on the console; a copy of everything goes to `log`.

    Raises: UserError when it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as copy:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
                copy.write(chunk)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code != 0:
        raise UserError(f"{_name(command)} failed with code {code}: its output above, and in {log}, says why")


def _name(command: Sequence[str]) -> str:
    """What to call a command in a message: its script, or the module it runs."""
    scripts = [Path(part).name for part in command if part.endswith(".py")]
    return scripts[0] if scripts else command[command.index("-m") + 1]
