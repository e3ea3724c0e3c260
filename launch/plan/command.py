"""What fits, how fast, and how to start it: memory and time of every stage, from the models' configs alone.

    python -m launch plan --policy EleutherAI/gpt-neo-1.3B --reward EleutherAI/gpt-neo-125M --gpus 4x24GB
    python -m launch plan --gpus 1x80GB --out plans/one            also writes accelerate and DeepSpeed files
    python -m launch plan --policy runs/small/base --reward runs/small/base --cpus 2x16GB --calibrate

Left out: adapters, encoder-decoders, several machines (plan for one: ranks count alike).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from rich.console import Console
from transformers.utils import logging

from launch.plan.fleet import read_fleet
from launch.plan.job import Job
from launch.plan.options import PlanOptions, check_options
from launch.plan.settings import Choice, choices_of, nearest_miss, proposal
from launch.plan.speed import speed_of
from launch.plan.table import name_of, show_choices, show_phases
from launch.plan.write import check_folder, command_of, write_plan
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError

WIDTH = 132  # of tables in a file
FOLDER = "PLAN"  # in commands where nothing is written


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, plan and say so. Raises: UserError for bad input, with --require for what is too big."""
    options = parse_config(PlanOptions, "Memory and time of every stage, and settings that fit.", argv)
    check_options(options)
    if options.out is not None:
        check_folder(options.out)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)  # transformers renames its checkpointing
    job = Job(options, read_fleet(options.gpus, options.cpus, options.host_memory))
    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDTH
    for note in job.notes:
        console.print(note, highlight=False)
    speed = speed_of(job)
    console.print(f"{job.fleet}, {job.precision}; time by {speed.source}", highlight=False)
    chosen: dict[str, Choice] = {}
    lacking: list[str] = []
    for stage in options.chosen:
        with errors.status(f"counting what {stage} needs"):
            choices = choices_of(stage, job, speed)
        _tell(console, job, stage, choices, chosen, lacking)
    if options.out is not None and chosen:
        console.print("written: " + ", ".join(map(str, write_plan(options.out, job, chosen))), soft_wrap=True)
    elif options.out is not None:
        console.print(f"nothing written to {options.out}: no stage fits", soft_wrap=True, highlight=False)
    if lacking and options.require:
        raise UserError("; ".join(lacking))


def _tell(
    console: Console, job: Job, stage: str, choices: list[Choice], chosen: dict[str, Choice], lacking: list[str]
) -> None:
    """Print one stage and note what comes of it."""
    best = proposal(choices)
    show_choices(console, stage, choices, best)
    if best is None:
        nearest, why = nearest_miss(choices, job.fleet)
        lacking.append(f"{stage} does not fit {job.fleet}: {name_of(nearest.setting)} needs {why}")
        show_phases(console, nearest.memory, job.fleet)
        console.print(lacking[-1], soft_wrap=True, highlight=False)
        return
    chosen[stage] = best
    show_phases(console, best.memory, job.fleet)
    line = command_of(stage, job, best.setting, job.options.out or FOLDER)
    console.print(line, soft_wrap=True, highlight=False, markup=False)
