"""Predicted against measured seconds: what `python -m launch plan --calibrate` says, and what the work then took.

    python -m benchmarks.plan_time                       # four pieces of work, two models, two lengths: ten minutes
    python -m benchmarks.plan_time --shapes 10m --lengths 128 --works sft --repeats 2 --clock wall

Each piece is predicted by a `launch.plan.job.Job` from the model's config and the rates that the plan's own
calibration gives (square matrices, plain operations and a toy model: nothing of what is measured). Every repeat
calibrates anew just before it measures, so that a busy machine slows both; reported are the medians over repeats, and
the median and extremes of predicted ÷ measured. Both are processor seconds by default, which other processes lengthen
less than wall seconds; alone on a machine the two are the same. Float32, one thread, one process, random weights, every
row as long as it may be. Left out: scoring by a reward model, checkpointing, the Trainer around an SFT or reward-model
step.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from benchmarks import plan_work
from benchmarks.plan_memory import PLAN_SHAPES, chosen
from benchmarks.workload import SHAPES, Shape, Workload, prepare
from launch.plan.calibrate import Rates, calibrate
from launch.plan.effort import Speed
from launch.plan.fleet import read_fleet
from launch.plan.job import Job
from launch.plan.memory import Setting
from launch.plan.options import PlanOptions
from launch.plan.speed import stage_seconds, to_speed
from trlx.utils.cli import parse_config
from trlx.utils.errors import run_main
from trlx.utils.files import write_json
from trlx.utils.logging import disable_progress_bar

TIME_SHAPES = {"10m": Shape(6, 320, 5, vocabulary=8192), "50m": PLAN_SHAPES["50m"]}
STAGES = {"sft": "sft", "reward": "reward_model", "ppo": "ppo", "ppo_all": "ppo"}
POSITIONS = 512
LINK = 1.0  # one process sends nothing
RESPONSE, ROWS, PAIRS, CHUNK, UNFROZEN = 16, 2, 1, 4, 2


@dataclass
class TimeOptions:
    """Options of the benchmark.

    Args:
        shapes: of GPT-Neo, separated by commas: 10m, 50m.
        lengths: tokens of prompt and response, separated by commas; 16 of them are the response.
        works: sft, reward, ppo (the top two blocks train), ppo_all.
        repeats: of each measurement, after one that warms up.
        seconds: of each of a calibration's five parts.
        clock: processor seconds of this process, or wall seconds.
        out: where the numbers go.
    """

    shapes: str = ",".join(TIME_SHAPES)
    lengths: str = "128,256"
    works: str = ",".join(STAGES)
    repeats: int = 3
    seconds: float = 0.2
    clock: Literal["processor", "wall"] = "processor"
    out: str = "benchmarks/results/plan_time.json"


def main(argv: list[str] | None = None) -> None:
    """Measure, predict, print and write."""
    options = parse_config(TimeOptions, "Predicted against measured seconds.", argv)
    logging.set_verbosity_error()
    disable_progress_bar()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    SHAPES.update(TIME_SHAPES)
    rows: list[dict[str, Any]] = []
    clock = patch("time.perf_counter", time.process_time) if options.clock == "processor" else nullcontext()
    with clock:  # the trainer's and the calibration's too
        for shape in chosen(options.shapes, TIME_SHAPES, "shapes"):
            for length in map(int, options.lengths.split(",")):
                for row in _case(shape, length, options):
                    rows.append(row)
                    show(rows)
                    result = {"sizes": sizes(), "clock": options.clock, "torch": torch.__version__, "rows": rows}
                    write_json(Path(options.out), result)


def _case(shape: str, length: int, options: TimeOptions) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), shape, False, POSITIONS)
        for work in chosen(options.works, STAGES, "works"):
            yield from compare(work, shape, length, Path(folder), options)


def sizes() -> dict[str, int]:
    """Rows and tokens of the pieces of work."""
    return {"response": RESPONSE, "rows": ROWS, "pairs": PAIRS, "chunk": CHUNK, "ppo_epochs": 1}


def compare(work: str, shape: str, length: int, folder: Path, options: TimeOptions) -> Iterator[dict[str, Any]]:
    """A row for each part of a piece of work: predicted and measured seconds of every repeat."""
    job, measure = _job(work, length, folder), prepared(work, shape, length, folder, options.repeats + 1)
    measure()
    pairs: list[tuple[dict[str, float], dict[str, float], Rates]] = []
    for _ in range(options.repeats):
        rates = calibrate("cpu", "fp32", options.seconds)
        pairs.append((predict(work, job, to_speed(rates, LINK, "here")), measure(), rates))
    for part in pairs[0][1]:
        predicted, measured = [one[0][part] for one in pairs], [one[1][part] for one in pairs]
        yield {
            **{"work": work, "part": part, "shape": shape, "length": length},
            **{"predicted": predicted, "measured": measured, "rates": [asdict(one[2]) for one in pairs]},
            "ratio": median(p / m for p, m in zip(predicted, measured, strict=True)),
        }


def _job(work: str, length: int, folder: Path) -> Job:
    model = str(folder / "model")
    options = PlanOptions(
        policy=model,
        reward=model,
        max_length=length,
        response=RESPONSE,
        sft_batch=ROWS,
        pairs=PAIRS,
        frozen_fraction=0.0,
        ppo_batch=ROWS,
        num_layers_unfrozen=UNFROZEN if work == "ppo" else -1,
        chunk=CHUNK,
        rollouts=CHUNK,
        ppo_epochs=1,
        reward_batch=CHUNK,
    )
    return Job(options, read_fleet(None, "1x64GB", None))


def predict(work: str, job: Job, speed: Speed) -> dict[str, float]:
    """Seconds by part, as `prepared` measures them."""
    rows = PAIRS if work == "reward" else ROWS
    parts = stage_seconds(job, STAGES[work], Setting(microbatch=rows), speed)
    if STAGES[work] != "ppo":
        return {"step": sum(parts.values())}
    return {name: seconds for name, seconds in parts.items() if name != "score"}


def prepared(work: str, shape: str, length: int, folder: Path, phases: int) -> Callable[[], dict[str, float]]:
    """What does the work once more and gives its seconds by part. Scoring is left out: the rewards are invented."""
    if STAGES[work] != "ppo":
        rows = PAIRS if work == "reward" else ROWS
        once = getattr(plan_work, work)(str(folder / "model"), length - RESPONSE, RESPONSE, rows, CHUNK)
        return lambda: {"step": _timed(once)}
    unfrozen = UNFROZEN if work == "ppo" else -1
    workload = Workload(str(folder), shape, unfrozen, False, length - RESPONSE, RESPONSE, CHUNK, CHUNK, ROWS, epochs=1)
    iterate = plan_work.ppo(workload, phases)

    def phase() -> dict[str, float]:
        took = iterate().seconds
        updates = sum(took[name] for name in ("forward", "backward", "optimizer", "other"))
        return {"write": took["generate"], "log-probs": took["experience"], "updates": updates}

    return phase


def _timed(once: Callable[[], None]) -> float:
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def show(rows: list[dict[str, Any]]) -> None:
    """The table so far."""
    table = Table(title="seconds, medians of repeats")
    for name in ("model", "tokens", "work", "part", "predicted", "measured", "predicted ÷ measured"):
        table.add_column(name)
    for row in rows:
        ratios = [p / m for p, m in zip(row["predicted"], row["measured"], strict=True)]
        taken = [f"{median(row[which]):.3f}" for which in ("predicted", "measured")]
        spread = f"{row['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        table.add_row(row["shape"], str(row["length"]), row["work"], row["part"], *taken, spread)
    Console(width=110).print(table)


if __name__ == "__main__":
    run_main(main)
