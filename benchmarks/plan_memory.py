"""Predicted against measured peak memory: what `python -m launch plan` says, and what the process then held.

    python -m benchmarks.plan_memory                              # four pieces of work on two models: minutes
    python -m benchmarks.plan_memory --shapes 50m --works write

Each piece runs in a process of its own, in float32 on one CPU thread: peak resident memory (VmHWM) less what the
process held after its imports. glibc keeps freed memory by default, which no plan can know: the processes run with one
arena, and freed blocks above 64 KB go back at once (`MALLOC` below). Weights are random.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from benchmarks.timing import peak_memory
from benchmarks.workload import SHAPES, Shape, Workload, make_model, prepare
from launch.plan.memory import PPOSizes, Setting, evaluation_phases, ppo_phases, training_phases
from launch.plan.passes import trace_ppo, trace_reward, trace_sft, trace_writing
from launch.plan.shapes import on_shapes
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, nearest, run_main
from trlx.utils.files import write_json

WORKS = ("sft", "reward", "ppo", "ppo_all", "write")
PLAN_SHAPES = {"50m": Shape(8, 512, 8), "125m": Shape(12, 768, 12)}
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
POSITIONS = 2048
TIMEOUT = 600.0
STEPS = 2  # the first makes Adam's moments


@dataclass(frozen=True)
class Sizes:
    """Tokens and rows of every piece of work."""

    prompt: int = 64
    response: int = 16
    rows: int = 4
    chunk: int = 8
    unfrozen: int = 2


@dataclass
class MemoryOptions:
    """Options of the benchmark.

    Args:
        shapes: of GPT-Neo, separated by commas: 50m, 125m.
        works: sft, reward, ppo (the top two blocks train), ppo_all, write.
        prompt: tokens of a prompt. response: of a response. rows: of a training pass. chunk: of a rollout.
        out: where the numbers go.
        only: internal: do this work in this process and print its peak.
    """

    shapes: str = "50m,125m"
    works: str = ",".join(WORKS)
    prompt: int = 64
    response: int = 16
    rows: int = 4
    chunk: int = 8
    out: str = "benchmarks/results/plan_memory.json"
    only: str | None = None


def main(argv: list[str] | None = None) -> None:
    """Measure, predict, print and write."""
    options = parse_config(MemoryOptions, "Predicted against measured peak memory.", argv)
    logging.set_verbosity_error()
    shapes, works = chosen(options.shapes, PLAN_SHAPES, "shapes"), chosen(options.works, WORKS, "works")
    SHAPES.update(PLAN_SHAPES)
    sizes = Sizes(options.prompt, options.response, options.rows, options.chunk)
    if options.only is not None:
        print(json.dumps(measure(works[0], shapes[0], sizes, Path(options.only))))
        return
    rows = []
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), shape, False, POSITIONS)
            for work in works:
                rows.append(compare(work, shape, sizes, folder))
                show(rows)
    write_json(Path(options.out), {"sizes": asdict(sizes), "torch": torch.__version__, "rows": rows})


def chosen(given: str, known: Any, option: str) -> list[str]:
    """Names separated by commas. Raises: UserError for one that is not `known`."""
    names = given.split(",")
    for name in names:
        if name not in known:
            raise UserError(f"--{option}: unknown '{name}'{nearest(name, known)}")
    return names


def compare(work: str, shape: str, sizes: Sizes, folder: str) -> dict[str, Any]:
    """One row: predicted and measured bytes."""
    predicted = predict(work, shape, sizes)
    command = [sys.executable, "-m", "benchmarks.plan_memory", "--only", folder, "--shapes", shape, "--works", work]
    for name in ("prompt", "response", "rows", "chunk"):
        command += [f"--{name}", str(getattr(sizes, name))]
    environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    measured = json.loads(done.stdout.splitlines()[-1])
    error = predicted["peak"] / measured["peak"] - 1.0
    return {"work": work, "shape": shape, "error": error, "predicted": predicted, "measured": measured}


def predict(work: str, shape: str, sizes: Sizes) -> dict[str, Any]:
    """Peak bytes by the plan, with the phase and its parts."""
    with on_shapes():
        config = make_model(PLAN_SHAPES[shape], False, POSITIONS, 0).config
        phases = _phases(work, config, sizes)
    worst = max(phases, key=lambda phase: phase.bytes)
    return {"peak": worst.bytes, "phase": worst.name, "parts": worst.parts}


def _phases(work: str, config: Any, sizes: Sizes) -> Any:
    length, setting = sizes.prompt + sizes.response, Setting(microbatch=sizes.rows)
    if work == "sft":
        trained = trace_sft(config, length, sizes.response, sizes.rows, "fp32", False)
        return training_phases(trained, setting, fused=False, bucket=0)
    if work == "reward":
        trained = trace_reward(config, length, 0.0, sizes.rows, "fp32", False)
        return training_phases(trained, setting, fused=False, bucket=0)
    ours = PPOSizes(sizes.prompt, sizes.chunk, sizes.chunk, sizes.rows, sizes.chunk)
    if work == "write":
        written = trace_writing(config, sizes.prompt, sizes.response, sizes.chunk, "fp32", slices=True)
        return evaluation_phases(written, None, setting, ours)
    unfrozen = sizes.unfrozen if work == "ppo" else -1
    tokens, rows = (sizes.prompt, sizes.response), (sizes.rows, sizes.chunk)
    policy = trace_ppo(config, None, *tokens, unfrozen, *rows, "fp32", False, slices=True)
    return ppo_phases(policy, None, setting, ours, bucket=0)


def measure(work: str, shape: str, sizes: Sizes, folder: Path) -> dict[str, int]:
    """Do the work here; bytes of the process before it, at most, and the difference."""
    from benchmarks import plan_work

    before = plan_work.resident_memory()
    torch.set_num_threads(1)
    if work.startswith("ppo"):
        once = plan_work.ppo(_workload(shape, sizes, folder, sizes.unfrozen if work == "ppo" else -1), STEPS)
    else:
        prepared = getattr(plan_work, work)
        once = prepared(str(folder / "model"), sizes.prompt, sizes.response, sizes.rows, sizes.chunk)
    for _ in range(1 if work == "write" else STEPS):
        once()
    most = peak_memory(torch.device("cpu")) or 0
    return {"before": before, "most": most, "peak": most - before}


def _workload(shape: str, sizes: Sizes, folder: Path, unfrozen: int) -> Workload:
    return Workload(
        str(folder), shape, unfrozen, False, sizes.prompt, sizes.response, sizes.chunk, sizes.chunk, sizes.rows, 1
    )


def show(rows: list[dict[str, Any]]) -> None:
    """The table so far."""
    table = Table(title="peak memory above the imports, MB")
    for name in ("model", "work", "worst phase", "predicted", "measured", "error"):
        table.add_column(name)
    for row in rows:
        mega = [f"{row[which]['peak'] / 1e6:.0f}" for which in ("predicted", "measured")]
        table.add_row(row["shape"], row["work"], row["predicted"]["phase"], *mega, f"{row['error']:+.1%}")
    Console().print(table)


if __name__ == "__main__":
    run_main(main)
