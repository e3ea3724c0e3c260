"""Who is judged: models by name under a run's root or by path, and baselines by name."""

from __future__ import annotations

import re
from pathlib import Path

from evaluation.baselines import BASELINES
from evaluation.policies import require_model
from evaluation.records import noted_options
from tasks.run_folder import MAKERS, RUN_FILE, RunFolder
from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError, nearest

ALWAYS = ("sft", "ppo")  # judged unless others are asked for
WHERE_THERE = ("ppo_heldout", "rft")  # and these where a stage has written them
PRETRAINED = "pretrained"
_PPO = "accelerate launch --config_file configs/default_accelerate_config.yaml trlx_gptneo_text_summarization.py"
_COMMANDS = {
    "sft": MAKERS["ckpts", "sft"],
    "ppo": _PPO,
    "ppo_heldout": f"{_PPO}` with its monitor on, `--monitor auto",
    "rft": MAKERS["ckpts", "rft", "best_checkpoint", "hf_model"],
}


def stage_folders(run: RunFolder) -> dict[str, str]:
    """Name → folder of the models that stages write."""
    folders = {"sft": run.sft, "ppo": run.best_policy, "ppo_heldout": run.best_heldout_policy, "rft": run.rft_policy}
    return {name: str(path) for name, path in folders.items()}


def parse_models(text: str | None, run: RunFolder) -> dict[str, str]:
    """`"sft,ppo,mine=path"` → {name: folder or hub id}, in the order given.

    Args:
        text: None for SFT, PPO, and what else stages have written.

    Raises: UserError for a name twice, a name without a path that is no stage, or a stage's model that is not there.
    """
    folders = stage_folders(run)
    if text is None:
        text = ",".join([*ALWAYS, *_also_there(folders)])
    models: dict[str, str] = {}
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        name, given, path = entry.partition("=")
        _check_name(entry, name, bool(given), path, models)
        models[name] = path if given else folders[name]
        require_model(name, models[name], _remedy(name) if not given else "check the path in --models")
    if not models:
        raise UserError("--models names no model; for example sft,ppo")
    return models


def with_pretrained(text: str, run: RunFolder) -> str:
    """`--models` in which `pretrained` by itself is the model that SFT began from, as SFT's own record says.

    Raises: UserError where there is no such record.
    """
    return ",".join(
        f"{PRETRAINED}={_began_from(run)}" if part.strip() == PRETRAINED else part for part in text.split(",")
    )


def _began_from(run: RunFolder) -> str:
    named = noted_options(run.sft).get("model")
    if not isinstance(named, str) or not named:
        raise UserError(
            f"--models: what '{PRETRAINED}' is cannot be told ({run.sft / RUN_FILE} does not say): give its folder or "
            f"hub id, as in {PRETRAINED}=FOLDER"
        )
    # A run may have been moved since.
    return named if Path(named).exists() or not (run.base / "config.json").is_file() else str(run.base)


def _also_there(folders: dict[str, str]) -> list[str]:
    """Those of `WHERE_THERE` that are; PPO's best by a held-out score only where it is not the best by reward too."""
    there = [name for name in WHERE_THERE if (Path(folders[name]) / "config.json").is_file()]
    if "ppo_heldout" in there and model_digest(folders["ppo_heldout"]) == model_digest(folders["ppo"]):
        there.remove("ppo_heldout")
    return there


def _check_name(entry: str, name: str, given: bool, path: str, models: dict[str, str]) -> None:
    if not re.fullmatch(r"[\w.-]+", name) or (given and not path):
        raise UserError(f"--models: '{entry}' is not name or name=path")
    if name in models:
        raise UserError(f"--models: '{name}' is named twice")
    if name in BASELINES or name == "reference":
        raise UserError(f"--models: '{name}' is the name of a baseline; call the model otherwise")
    if not given and name not in _COMMANDS:
        known = ", ".join(_COMMANDS)
        raise UserError(f"--models: '{name}' needs a path, as in {name}=FOLDER; known by name are {known}")


def _remedy(stage: str) -> str:
    return f"the {stage} stage writes it, `{_COMMANDS[stage]}` with the same --root; or judge others with --models"


def parse_baselines(text: str) -> list[str]:
    """`"title,first_sentence"` → names; an empty text names none. Raises: UserError for an unknown one."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in BASELINES:
            raise UserError(f"--baselines: unknown baseline '{name}'{nearest(name, BASELINES)}")
    return list(dict.fromkeys(names))
