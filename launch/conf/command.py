"""A stage from a `.conf` file of llm-on-ray: read, translated, and run as a Ray job.

    python rlhf/ppo_trainer.py --config_path rlhf/ppo.conf
    python rlhf/ppo_trainer.py --config_path rlhf/ppo.conf --num_workers 4 --train.seed 1
    python rlhf/ppo_trainer.py --config_path rlhf/ppo.conf --print > ppo.yaml

Options that are none of the command's own go to the stage, after those of the file.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.conf.course import print_course
from launch.conf.literals import read_conf
from launch.conf.rows import phases
from launch.conf.translation import Kind, Translation, translate
from launch.pipeline.options import value_of
from launch.ray_jobs.command import run_job
from launch.ray_jobs.options import SCRIPTS, RayOptions, check_options
from tasks.run_folder import DEFAULT_ROOT, REPO, RunFolder, fill_places
from trlx.utils.cli import parse_config

RESTARTS = 3


@dataclass
class ConfOptions:
    """Options of the command; all others are the stage's, e.g. --max_steps 10, and count more than the file.

    Args:
        config_path: the .conf file.
        print: show the stage's YAML that the file amounts to, and do nothing.
        num_workers: training processes; null for the file's num_training_workers.
        resources_per_worker: as CPU=1,GPU=0 or a JSON mapping; null for the file's.
        address: a Ray cluster that is up, ray://HOST:PORT or HOST:PORT; null starts one on this machine, and ends it.
        storage: folder of Ray's records and of the workers' output; null for `ray` in the file's output_dir.
        max_failures: how often a stage that failed is started again, from its last checkpoint; -1 for ever.
    """

    config_path: str
    print: bool = False
    num_workers: int | None = None
    resources_per_worker: str | None = None
    address: str | None = None
    storage: str | None = None
    max_failures: int = RESTARTS


OWN = {field.name for field in dataclasses.fields(ConfOptions)} | {"help"}


def main(kind: Kind, argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run the stage of a kind of file.

    Raises: UserError for a mistake in the command line, the file or the stage's input.
    """
    ours, theirs = apart(sys.argv[1:] if argv is None else argv)
    options = parse_config(ConfOptions, f"A .conf file ({kind}) as a Ray job; see docs/recipes/.", ours)
    translation = translate(kind, read_conf(options.config_path))
    job = job_options(options, translation)
    check_options(job)
    stage = stage_options(translation, job.num_workers, theirs)
    if options.print:
        importlib.import_module(SCRIPTS[translation.stage].module).main([*stage, "--print_config"])
        return
    for note in translation.notes:
        print(f"[conf] {note}", flush=True)
    run_job(fill_places(job, DEFAULT_ROOT), stage)
    if kind == "ppo":
        print_course(logs_of(stage), Console())


def logs_of(stage: Sequence[str]) -> Path:
    """Where PPO, given these options, writes its metrics."""
    root = value_of("root", stage) or DEFAULT_ROOT
    return Path(value_of("train.logging_dir", stage) or RunFolder.of(root).ppo_logs)


def apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(options of the command, options of the stage), each with the values that follow it."""
    ours: list[str] = []
    theirs: list[str] = []
    target = ours
    for argument in argv:
        if argument.startswith("--") or argument == "-h":
            name = argument.lstrip("-").partition("=")[0].replace("-", "_")
            target = ours if name in OWN or argument == "-h" else theirs
        target.append(argument)
    return ours, theirs


def base_options(translation: Translation) -> list[str]:
    """The options of `configs/instruct`, which the file's come on top of."""
    return ["--config", str(REPO / "configs" / "instruct" / f"{translation.stage}.yaml")]


def stage_options(translation: Translation, num_workers: int, theirs: Sequence[str]) -> list[str]:
    """All options of the stage. Of PPO's passes over the prompts those count that the options in the end name.

    Raises: UserError for prompts that cannot be read.
    """
    said = [*base_options(translation), *translation.command_line()]
    if translation.passes is None or value_of("train.epochs", theirs) is not None:
        return [*said, *theirs]
    options = parse_config(importlib.import_module(SCRIPTS["ppo"].module).PPOOptions, "", [*said, *theirs])
    options = fill_places(options, options.root)
    epochs = phases(translation.passes, options, options.method, num_workers)
    return [*said, f"--train.epochs={epochs}", *theirs]


def job_options(options: ConfOptions, translation: Translation) -> RayOptions:
    """Of the Ray job: what the command line says, else the file, else the job's defaults."""
    names = {field.name for field in dataclasses.fields(RayOptions)}
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if value is not None}
    return RayOptions(
        translation.stage, **translation.job | {name: value for name, value in given.items() if name in names}
    )
