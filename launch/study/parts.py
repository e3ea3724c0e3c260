"""The parts of a study: commands that are run once and scores that are computed once, however often it is started.

A part leaves a note of what it was made by when it has finished. A part whose note says the same is kept; one that
was interrupted, or that other options made, is done again. Left out: DeepSpeed and several processes, which the
miniature can do without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.local import Machine, ppo_command, python_command, run_stage, stage_environment, trainer_command
from tasks.run_folder import REPO, RunFolder
from trlx.utils.errors import UserError
from trlx.utils.files import write_json

ALONE = Machine(processes=1, deepspeed=False, reason="a study's runs are small")
REWARD_SCRIPT = "reward_model/train_reward_model_gptneo.py"
NOTE = "finished.json"


@dataclass(frozen=True)
class StudyOptions:
    """What every study needs to know.

    Args:
        run: the finished run it is made from. folder: where its parts go.
        posts: test posts that policies are judged on. kl_posts: posts sampled for each KL.
    """

    run: RunFolder
    folder: Path
    posts: int
    kl_posts: int


def require_finished(run: RunFolder) -> None:
    """Check that the run has what a study starts from. Raises: UserError naming what is missing."""
    needed = {
        run.sft / "config.json": "SFT",
        run.root / "data" / "comparisons_train.jsonl": "preference pairs",
        run.root / "data" / "test.jsonl": "posts",
    }
    for path, stage in needed.items():
        if not path.is_file():
            raise UserError(f"no {path} ({stage}): `python -m launch.demo --root {run.root}` makes a run to study")


def command_once(note: Path, about: str, command: Sequence[str]) -> None:
    """Run a command with its output on the console and in a log beside its note, unless it was run and finished.

    Raises: UserError when it fails.
    """

    def act() -> dict[str, Any]:
        run_stage(command, stage_environment(ALONE), note.with_suffix(".log"))
        return {}

    once(note, about, list(command[1:]), act)


def once(note: Path, about: str, made_by: Any, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `act` returns, computed now or when the note was written.

    Args:
        note: the file of the note. about: the part's name for people.
        made_by: JSON-able; another value than the note's does the part again.
    """
    key = json.loads(json.dumps(made_by))
    if note.is_file():
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["made_by"] == key:
            print(f"[study] {about}: kept", flush=True)
            return dict(known["found"])
    print(f"\n[study] {about}", flush=True)
    note.parent.mkdir(parents=True, exist_ok=True)
    found = act()
    write_json(note, {"made_by": key, "found": found})
    return found


def reward_model_once(study: StudyOptions, config: str, out: Path, options: Sequence[str] = ()) -> None:
    """Train a reward model into `out` by a YAML file of configs/tiny; without the gate, which some are made to fail."""
    settings = [*_config(study, config), "--out", str(out), "--overwrite", "true", "--gate", "null", *options]
    command_once(out.parent / f"{out.name}.{NOTE}", f"reward model {out.name}", trainer(settings))


def trainer(settings: Sequence[str]) -> list[str]:
    """The command that trains a reward model."""
    return trainer_command(ALONE, REWARD_SCRIPT, settings)


def miniature_once(study: StudyOptions, note: str, arguments: Sequence[str]) -> None:
    """Run a command of `tasks.miniature` on the run's root."""
    command = python_command(["-m", "tasks.miniature", *arguments, "--root", str(study.run.root)])
    command_once(study.folder / note, f"miniature {arguments[0]}", command)


def ppo_once(study: StudyOptions, folder: Path, options: Sequence[str]) -> None:
    """Train a policy into `folder` by configs/tiny/ppo.yaml and these options."""
    own = ["--overwrite", "true", "--train.checkpoint_dir", str(folder), "--train.logging_dir", str(folder / "logs")]
    own += ["--train.tracker", "null", "--train.checkpoint_interval", "1000000"]
    settings = [*_config(study, "ppo"), *own, *options]
    command_once(folder / NOTE, f"PPO {folder.name}", ppo_command(ALONE, "", settings))


def hub_off() -> None:
    """Nothing of a study is on the hub; looking there would only take time."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _config(study: StudyOptions, name: str) -> list[str]:
    return ["--config", str(REPO / "configs" / "tiny" / f"{name}.yaml"), "--root", str(study.run.root)]
