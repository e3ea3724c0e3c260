"""Seconds by phase of one PPO iteration, and the memory of the process that ran it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from trlx.trainer.engine import synchronise

# In the order they run. What is left of the total (data loading, logging, advantages) is "other".
PHASES = ("generate", "score", "experience", "forward", "backward", "optimizer", "other")


@dataclass
class Iteration:
    """What one iteration took.

    Args:
        seconds: by phase, all of `PHASES`. total: their sum, wall seconds. cpu: processor seconds of the process.
        tokens: real response tokens in the rollouts. peak_bytes: see `peak_memory`, since the process started.
        gaps: names and sizes, in nats a token, of how far passes are apart that should agree; only the engine's.
    """

    seconds: dict[str, float]
    total: float
    cpu: float
    tokens: int
    peak_bytes: int | None
    gaps: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Adds up seconds by phase.

    Args:
        device: waited for before the clock is read.
    """

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.start, self.cpu_start = self.now(), time.process_time()

    def now(self) -> float:
        """Wall seconds, once the device has done what it was told."""
        synchronise(self.device)
        return time.perf_counter()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within the block, time counts as `name`."""
        before = self.now()
        yield
        self.seconds[name] += self.now() - before

    def finish(self, tokens: int, gaps: dict[str, float] | None = None) -> Iteration:
        """The iteration that began when this stopwatch was made."""
        total, cpu = self.now() - self.start, time.process_time() - self.cpu_start
        self.seconds["other"] = total - sum(value for name, value in self.seconds.items() if name != "other")
        return Iteration(self.seconds, total, cpu, tokens, peak_memory(self.device), gaps or {})


def peak_memory(device: torch.device) -> int | None:
    """Bytes: on a GPU the most that tensors took, on a CPU the most the process held (Linux only, else None)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    kilobytes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(kilobytes[0]) * 1024 if kilobytes else None
