"""The stages of a run, and the command line of each on each machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launch.demo import SECOND_SEED
from launch.local import PPO_SCRIPT, Machine, Node, ppo_command, python_command, trainer_command
from tasks.run_folder import REPO, RunFolder

ANEW = ("--overwrite", "true")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        program: a script of the repository, or a module and what follows it.
        launcher: who starts its ranks; python: it has one, on the first machine.
        seed: the option that seeds it; None where nothing is drawn. seed_offset: is added to the run's seed.
        out: where it keeps its record, run.json; None for a stage that trains nothing.
        go_on: options after an interruption. anew: options to do it again where it has finished.
    """

    program: tuple[str, ...]
    launcher: Literal["deepspeed", "accelerate", "python"]
    seed: str | None = "seed"
    seed_offset: int = 0
    out: Callable[[RunFolder], Path] | None = None
    go_on: tuple[str, ...] = ("--resume", "auto")
    anew: tuple[str, ...] = ANEW


REWARD_SCRIPT = "reward_model/train_reward_model_gptneo.py"
STAGES: dict[str, Stage] = {
    "posts": Stage(("-m", "tasks.miniature", "posts"), "python", go_on=ANEW),
    "sft": Stage(("sft/train_gptneo_summarize.py",), "deepspeed", out=lambda folder: folder.sft),
    "pairs": Stage(("-m", "tasks.miniature", "pairs"), "python", go_on=ANEW),
    "reward_model": Stage((REWARD_SCRIPT,), "deepspeed", out=lambda folder: folder.reward_model),
    "classifier": Stage(
        ("reward_model/train_sentiment_classifier.py",), "deepspeed", out=lambda folder: folder.reward_model
    ),
    "second_reward_model": Stage(
        (REWARD_SCRIPT,), "deepspeed", seed_offset=SECOND_SEED, out=lambda folder: folder.second_reward_model
    ),
    "ppo": Stage((PPO_SCRIPT,), "accelerate", seed="train.seed", out=lambda folder: folder.ppo_logs),
    "rft": Stage(
        ("trlx_gptneo_rft_summarization.py",), "accelerate", seed="train.seed", out=lambda folder: folder.rft_logs
    ),
    "evaluation": Stage(("trlx_inference_gptneo.py",), "python", anew=()),
    "scores": Stage(("-m", "evaluation", "scores"), "python", seed=None, go_on=(), anew=()),
    "prompts": Stage(("-m", "evaluation", "prompts"), "python", go_on=(), anew=()),
}


def python_stage(stage: Stage, options: Sequence[str]) -> list[str]:
    """The stage as a single process, launchers left out."""
    first, *rest = stage.program
    return python_command([first if first == "-m" else str(REPO / first), *rest, *options])


def stage_commands(
    stage: Stage, machine: Machine, accelerate: str, options: Sequence[str], nodes: Sequence[Node]
) -> list[list[str]]:
    """The command line of a stage for each machine that takes part in it.

    Args:
        machine: what every machine runs. accelerate: accelerate's YAML file. options: of the stage.
        nodes: the machines; a stage of one process runs on the first.
    """
    if stage.launcher == "python":
        return [python_stage(stage, options)]
    if stage.launcher == "deepspeed":
        return [trainer_command(machine, stage.program[0], options, node) for node in nodes]
    return [ppo_command(machine, accelerate, options, node, stage.program[0]) for node in nodes]


def on_port(nodes: Sequence[Node], port: int) -> list[Node]:
    """The same machines, meeting at a port."""
    return [dataclasses.replace(node, port=port) for node in nodes]
