"""Running both sides in turn; each in a process of its own, so that neither's memory counts for the other."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch
import transformers

from benchmarks.agreement import differences
from benchmarks.engine_ppo import EnginePPO
from benchmarks.plain_ppo import PlainPPO
from benchmarks.timing import Iteration
from benchmarks.workload import Workload
from trlx.utils.logging import disable_progress_bar

SIDES = ("baseline", "engine")


@dataclasses.dataclass
class Measured:
    """One workload's result.

    Args:
        differences: from `agreement.differences`. repeats: by side, in the order they ran; warm-ups are left out.
    """

    workload: Workload
    differences: dict[str, float]
    repeats: dict[str, list[Iteration]]


def measure(workload: Workload, repeats: int, progress: Callable[[str], None], isolated: bool = True) -> Measured:
    """Check that both sides compute the same, then time them in turn, so that both meet the same disturbances.

    Args:
        repeats: timed iterations of each side, after one that warms up.
        progress: told what has been done.
        isolated: in processes of their own; else in this one, whose peak memory then says little.
    """
    start = _in_helper if isolated else _in_place
    with start("agreement", workload, 0) as check:
        found = check()
    progress("both sides compute the same: largest difference " + f"{max(found.values()):.1e}")
    timed: dict[str, list[Iteration]] = {side: [] for side in SIDES}
    with contextlib.ExitStack() as stack:
        helpers = {side: stack.enter_context(start(side, workload, repeats + 1)) for side in SIDES}
        for repeat in range(repeats + 1):
            for side, iterate in helpers.items():
                took = iterate()
                which = f"{repeat}/{repeats}" if repeat else "warm-up"
                progress(f"{side} {which}: {took.total:.1f} s, {took.cpu:.1f} s of processor time")
                if repeat > 0:
                    timed[side].append(took)
    return Measured(workload, found, timed)


@contextlib.contextmanager
def _in_place(task: str, workload: Workload, iterations: int) -> Iterator[Callable[[], Any]]:
    yield _prepare(task, workload, iterations)


@contextlib.contextmanager
def _in_helper(task: str, workload: Workload, iterations: int) -> Iterator[Callable[[], Any]]:
    """A process for one task; within the block, each call does it once more and returns what came of it."""
    # Read by the thread pools when the process starts.
    os.environ["OMP_NUM_THREADS"] = str(workload.threads)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, task, workload, iterations), daemon=True)
    process.start()
    there.close()
    try:
        yield lambda: _ask(here)
    finally:
        here.close()  # ends the helper's loop
        process.join()


def _ask(connection: Connection) -> Any:
    try:
        connection.send("go")
        answer, error = connection.recv()
    except (EOFError, OSError) as cause:
        raise RuntimeError("a side of the benchmark ended without an answer: out of memory?") from cause
    if error is not None:
        raise RuntimeError(f"a side of the benchmark failed:\n{error}")
    return answer


def _serve(connection: Connection, task: str, workload: Workload, iterations: int) -> None:
    disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    work: Callable[[], Any] | None = None
    with contextlib.suppress(EOFError, BrokenPipeError):
        while connection.recv():
            try:
                work = work or _prepare(task, workload, iterations)
                connection.send((work(), None))
            except Exception:
                connection.send((None, traceback.format_exc()))


def _prepare(task: str, workload: Workload, iterations: int) -> Callable[[], Any]:
    torch.set_num_threads(workload.threads)
    if task == "agreement":
        return lambda: differences(workload)
    return PlainPPO(workload).iterate if task == "baseline" else EnginePPO(workload, iterations).iterate
