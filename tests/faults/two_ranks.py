"""Stages on two CPU ranks under their real launchers, with an order (`killing`) carried out in one of the ranks.

Python imports `sitecustomize` from PYTHONPATH when it starts, so that the command is the one a person gives.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from harness import PPO, quiet_environment
from killing import Order
from stages import options

from launch.local import Machine, Node, free_port, ppo_command, stage_environment, trainer_command
from tasks.run_folder import REPO

TWO = Machine(2, True, "")
BOUND = 400.0  # seconds that a run may take; a hang takes for ever
MARK = "KILLED_RUN"  # in the environment of every process of a run
PPO_CONFIG = {"ddp": "configs/accelerate/cpu.yaml", "zero2": "configs/tiny/accelerate.yaml"}


def command(script: str, layout: str, root: Path, node: Node) -> list[str]:
    """The stage's under its launcher: `deepspeed`, for DDP `torchrun`, for PPO `accelerate launch`."""
    given = options(script, root)
    if script == PPO:
        return ppo_command(TWO, PPO_CONFIG[layout], given, node)
    if layout == "zero2":
        given += ["--deepspeed", str(REPO / "configs" / "tiny" / "ds_config.json")]
        return trainer_command(TWO, script, given, node)
    torchrun = ["-m", "torch.distributed.run", "--master_port", str(node.port), "--nproc_per_node", "2"]
    return [sys.executable, *torchrun, str(REPO / script), *given, "--deepspeed", "null"]


@dataclass(frozen=True)
class Ended:
    """How a run ended. `code`: its launcher's. `output`: the last words of all processes."""

    code: int
    output: str


def run(script: str, layout: str, root: Path, aside: Path, *more: str, orders: dict[int, Order] | None = None) -> Ended:
    """Run a stage to its end, or to the end that one of the orders puts to it.

    Args:
        aside: a folder for what is not the run's. more: options. orders: rank → what its process is to do.

    Raises: AssertionError where a process of the run is left `BOUND` seconds after the start; none is then.
    """
    mark, until = uuid.uuid4().hex, time.monotonic() + BOUND
    aside.mkdir(exist_ok=True)
    environment = stage_environment(TWO) | quiet_environment(**{MARK: mark}, DS_ACCELERATOR="cpu")
    environment |= {"PATH": stage_environment(TWO)["PATH"]}
    environment |= {"PYTHONPATH": os.pathsep.join([str(_customised(aside, script, orders or {})), str(REPO)])}
    node, log = Node(port=free_port()), aside / "output"
    with log.open("wb") as output, _none_left(mark, node):
        launched = [*command(script, layout, root, node), *more]
        process = subprocess.Popen(launched, env=environment, stdout=output, stderr=output, cwd=aside)
        while (process.poll() is None or left(mark)) and time.monotonic() < until:
            time.sleep(0.2)
        assert process.poll() is not None and not left(mark), f"{left(mark)} still run: {tail(log)}"
        assert process.returncode or not buffers(node), f"{buffers(node)} stay in the machine's memory"
    return Ended(process.returncode, tail(log))


def tail(log: Path) -> str:
    """The last words of a run."""
    return log.read_text(errors="replace")[-4000:]


def _customised(aside: Path, script: str, orders: dict[int, Order]) -> Path:
    """A folder with a `sitecustomize` for the ranks, which the launcher's own processes leave alone."""
    folder = aside / "site"
    folder.mkdir(exist_ok=True)
    lines = [f"import os, sys\nrank = os.environ.get('RANK') if {str(REPO / script)!r} in sys.orig_argv else None\n"]
    lines += [f"if rank == '{rank}':\n    {order.code()}" for rank, order in orders.items()]
    (folder / "sitecustomize.py").write_text("".join(lines))
    return folder


def left(mark: str) -> list[psutil.Process]:
    """The processes of a run that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


@contextlib.contextmanager
def _none_left(mark: str, node: Node) -> Iterator[None]:
    """At the end of the block no process of the run is left, nor what DeepSpeed leaves in the machine's memory."""
    try:
        yield
    finally:
        for process in left(mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for buffer in buffers(node):
            buffer.unlink(missing_ok=True)


def buffers(node: Node) -> list[Path]:
    """Memory that DeepSpeed's ranks of a run share and that still has a name."""
    return list(Path("/dev/shm").glob(f"deepspeed_allreduce_buffer_*_{node.port}_*"))
