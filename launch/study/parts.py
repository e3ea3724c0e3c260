"""The parts of a study: commands that are run once and scores that are computed once, however often it is started.

A part leaves a note of what it was made by when it has finished: its command, and digests of the models, data and
settings that it reads. A part whose note says the same, and whose outputs are there, is kept; one that was interrupted,
or that other options or inputs made, is done again. Notes hold no absolute paths, so that a run can be moved with its
studies. Left out: DeepSpeed and several processes, which the miniature can do without.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.local import Machine, ppo_command, python_command, run_stage, stage_environment, trainer_command
from tasks.run_folder import REPO, RunFolder
from trlx.utils.digest import file_digest, model_digest
from trlx.utils.errors import UserError
from trlx.utils.files import write_json
from trlx.utils.yaml_file import read_yaml

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


@dataclass(frozen=True)
class Inputs:
    """What a part reads besides its command line.

    Args:
        models: folders. data: names of files below the run's `data`, which may be patterns. config: a YAML file.
    """

    models: Sequence[Path] = ()
    data: Sequence[str] = ()
    config: Path | None = None

    def facts(self, run: RunFolder) -> dict[str, Any]:
        """Digests, JSON-able, that change with what is read."""
        files = sorted(path for name in self.data for path in (run.root / "data").glob(name))
        return {
            "models": [model_digest(folder) for folder in self.models],
            "data": {path.name: file_digest(path) for path in files},
            "config": None if self.config is None else read_yaml(self.config).values,
        }


def command_once(
    study: StudyOptions, note: Path, about: str, command: Sequence[str], inputs: Inputs, outputs: Sequence[Path]
) -> None:
    """Run a command with its output on the console and in a log beside its note, unless it was run and finished on
    the same inputs and its outputs are there.

    Raises: UserError when it fails.
    """

    def act() -> dict[str, Any]:
        run_stage(command, stage_environment(ALONE), note.with_suffix(".log"))
        return {}

    made_by = {"command": portable(command[1:], study.run.root), **inputs.facts(study.run)}
    once(note, about, made_by, act, outputs)


def portable(command: Sequence[str], root: Path) -> list[str]:
    """A command line with `{root}` and `{repo}` where their paths were."""

    def without(path: Path, place: str, text: str) -> str:
        return re.sub(rf"{re.escape(str(path))}(?=[/,]|$)", place, text)

    return [without(REPO, "{repo}", without(root, "{root}", argument)) for argument in command]


def once(
    note: Path, about: str, made_by: Any, act: Callable[[], dict[str, Any]], outputs: Sequence[Path] = ()
) -> dict[str, Any]:
    """What `act` returns, computed now or when the note was written.

    Args:
        note: the file of the note. about: the part's name for people.
        made_by: JSON-able; another value than the note's does the part again.
        outputs: files that must be there for the part to be kept.
    """
    key = json.loads(json.dumps(made_by))
    if note.is_file() and all(path.is_file() for path in outputs):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known.get("made_by") == key:
            print(f"[study] {about}: kept", flush=True)
            return dict(known["found"])
    print(f"\n[study] {about}", flush=True)
    note.parent.mkdir(parents=True, exist_ok=True)
    found = act()
    write_json(note, {"made_by": key, "found": found})
    return found


def reward_model_once(
    study: StudyOptions, config: str, out: Path, options: Sequence[str] = (), pairs: str = "comparisons"
) -> None:
    """Train a reward model into `out` by a YAML file of configs/tiny; without the gate, which some are made to fail.

    Args:
        pairs: how the names of the files of pairs that the YAML file names begin.
    """
    settings = [*_config(study, config), "--out", str(out), "--overwrite", "true", "--gate", "null", *options]
    data = [f"{pairs}_train.jsonl", f"{pairs}_valid1.jsonl", "comparisons_test.jsonl", "sft_valid.jsonl"]
    inputs = Inputs([study.run.sft], data, _config_file(config))
    outputs = [out / "config.json", out / "model.safetensors"]
    note = out.parent / f"{out.name}.{NOTE}"
    command_once(study, note, f"reward model {out.name}", trainer(settings), inputs, outputs)


def trainer(settings: Sequence[str]) -> list[str]:
    """The command that trains a reward model."""
    return trainer_command(ALONE, REWARD_SCRIPT, settings)


def miniature_once(
    study: StudyOptions, note: str, arguments: Sequence[str], reads: Sequence[str], writes: Sequence[str]
) -> None:
    """Run a command of `tasks.miniature` on the run's root.

    Args:
        reads, writes: names of files below the run's `data`; what is read may be a pattern.
    """
    command = python_command(["-m", "tasks.miniature", *arguments, "--root", str(study.run.root)])
    outputs = [study.run.root / "data" / name for name in writes]
    command_once(study, study.folder / note, f"miniature {arguments[0]}", command, Inputs(data=reads), outputs)


def ppo_once(
    study: StudyOptions, folder: Path, options: Sequence[str], reward_models: Sequence[Path], saved: Sequence[str]
) -> None:
    """Train a policy into `folder` by configs/tiny/ppo.yaml and these options.

    Args:
        reward_models: that the options name.
        saved: names of the checkpoints in `folder` that are wanted of it.
    """
    own = ["--overwrite", "true", "--train.checkpoint_dir", str(folder), "--train.logging_dir", str(folder / "logs")]
    own += ["--train.tracker", "null", "--train.checkpoint_interval", "1000000"]
    settings = [*_config(study, "ppo"), *own, *options]
    inputs = Inputs([study.run.sft, *reward_models], ["ppo_*.jsonl"], _config_file("ppo"))
    outputs = [folder / "logs" / "monitor.json", *(folder / name / "hf_model" / "config.json" for name in saved)]
    command_once(study, folder / NOTE, f"PPO {folder.name}", ppo_command(ALONE, "", settings), inputs, outputs)


def hub_off() -> None:
    """Nothing of a study is on the hub; looking there would only take time."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _config(study: StudyOptions, name: str) -> list[str]:
    return ["--config", str(_config_file(name)), "--root", str(study.run.root)]


def _config_file(name: str) -> Path:
    return REPO / "configs" / "tiny" / f"{name}.yaml"
