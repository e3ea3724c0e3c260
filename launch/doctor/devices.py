"""What this machine computes with, and how fast bytes move in it. Left out: speed of arithmetic, other machines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import permutations

import psutil
import torch

from launch.doctor.finding import Finding, judge, ok
from trlx.utils.disk import gigabytes

LEAST_MEMORY = 4 * 10**9  # bytes: below it even the libraries with a small model do not fit well
COPY_BYTES = 64 * 2**20
REPEATS = 5
# GB/s, below which something is wrong rather than slow: one channel of old memory, PCIe 3.0 with four lanes.
LEAST_MEMORY_RATE = 1.0
LEAST_BUS_RATE = 2.0


def device_findings() -> list[Finding]:
    """GPUs, processor cores, memory."""
    return [_gpus(), *_busy_gpus(), _cores(), _memory()]


def bandwidth_findings() -> list[Finding]:
    """Rates of a short copy: in memory, to and from each GPU, between each two of them."""
    findings = [_rate("copy in memory", _host_copy(), LEAST_MEMORY_RATE, "other programs on this machine may be busy")]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        for name, copy in _bus_copies(index).items():
            remedy = "check the slot and its lanes (`nvidia-smi -q -d PCIE`)"
            findings.append(_rate(f"copy {name} GPU {index}", copy, LEAST_BUS_RATE, remedy))
    for source, target in permutations(range(count), 2):
        name, remedy = f"copy GPU {source} to {target}", "`nvidia-smi topo -m` shows the way they are joined"
        findings.append(_rate(name, _peer_copy(source, target), LEAST_BUS_RATE, remedy))
    return findings


def _gpus() -> Finding:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        seen = "none" if built is None else f"none, though torch is built for CUDA {built}"
        remedy = "small models train on the processor; for a GPU see its driver and PyTorch's CUDA build"
        return judge(built is None and not os.path.exists("/dev/nvidia0"), "GPUs", seen, remedy, "warn")
    kinds = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ok("GPUs", ", ".join(f"{kind.name} ({gigabytes(kind.total_memory)})" for kind in kinds))


def _busy_gpus() -> list[Finding]:
    """Those of which others hold more than a tenth."""
    busy = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        if free < 0.9 * total:
            seen = f"{gigabytes(free)} of {gigabytes(total)} are free"
            busy.append(Finding("warn", f"GPU {index}", seen, "`nvidia-smi` shows who holds the rest"))
    return busy


def _cores() -> Finding:
    mine, threads = len(psutil.Process().cpu_affinity()), torch.get_num_threads()  # type: ignore[arg-type]
    remedy = f"threads will wait for each other: export OMP_NUM_THREADS={mine}"
    return judge(threads <= mine, "processor", f"{mine} cores, {threads} threads of torch", remedy, "warn")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    seen = f"{gigabytes(memory.available)} of {gigabytes(memory.total)} are free"
    return judge(
        memory.available >= LEAST_MEMORY, "memory", seen, "end other programs, or take a larger machine", "warn"
    )


def _rate(name: str, copy: Callable[[], object], least: float, remedy: str) -> Finding:
    rate = COPY_BYTES / _seconds(copy) / 1e9
    return judge(rate >= least, name, f"{rate:.1f} GB/s", remedy, "warn")


def _seconds(act: Callable[[], object]) -> float:
    """The shortest of a few runs, after one that does not count."""
    times = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def _host_copy() -> Callable[[], object]:
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _bus_copies(index: int) -> dict[str, Callable[[], object]]:
    host = torch.zeros(COPY_BYTES, dtype=torch.uint8).pin_memory()
    there = torch.empty(COPY_BYTES, dtype=torch.uint8, device=f"cuda:{index}")
    return {"to": _finished(lambda: there.copy_(host), index), "from": _finished(lambda: host.copy_(there), index)}


def _peer_copy(source: int, target: int) -> Callable[[], object]:
    given = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=f"cuda:{source}")
    taken = torch.empty(COPY_BYTES, dtype=torch.uint8, device=f"cuda:{target}")
    return _finished(lambda: taken.copy_(given), source, target)


def _finished(act: Callable[[], object], *devices: int) -> Callable[[], object]:
    """The copy, waited for on its devices."""

    def run() -> None:
        act()
        for device in devices:
            torch.cuda.synchronize(device)

    return run
