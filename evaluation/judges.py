"""The reward models that judge: which they are, and what is known of how far they can be trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluation.policies import require_model
from reward_model.provenance import shared_posts
from reward_model.verdict import read_verdict
from tasks.run_folder import MAKERS, RunFolder
from trlx.utils.errors import UserError

NONE = "none"


def reward_model_path(given: str | None, run: RunFolder) -> str:
    """The reward model of the run, or the one given. Raises: UserError when there is none."""
    path = given or str(run.reward_model)
    require_model("reward", path, f"`{MAKERS['ckpts', 'reward_model']}` with the same --root makes it")
    return path


def second_reward_model_path(given: str | None, run: RunFolder) -> str | None:
    """The one given, the one under the root where there is one, or None (also for "none").

    Raises: UserError when the one given is not there.
    """
    return _where_there(given, run.second_reward_model, "second reward")


def reward_model_where_there(given: str | None, run: RunFolder) -> str | None:
    """The same of the reward model, for what can do without one."""
    return _where_there(given, run.reward_model, "reward")


def _where_there(given: str | None, own: Path, name: str) -> str | None:
    if given is None:
        return str(own) if (own / "config.json").is_file() else None
    if given == NONE:
        return None
    require_model(name, given, f"check --{name.replace(' ', '_')}_model, or give {NONE}")
    return given


def about(path: str, run: RunFolder) -> dict[str, Any]:
    """What results.json says of a reward model: its own stage's test numbers and its gate's verdict, where known."""
    verdict = read_verdict(path) if Path(path).is_dir() else None
    gate = None if verdict is None else {"passed": verdict.passed, "stale": verdict.stale, "lines": verdict.lines}
    return {"path": run.shown(path), **held_out(path), "gate": gate}


def about_second(path: str | None, first: str, run: RunFolder) -> dict[str, Any]:
    """The same of the second one, and how many posts both were trained on (None: not known)."""
    if path is None:
        return {}
    shared = shared_posts(path, first) if Path(path).is_dir() and Path(first).is_dir() else None
    return {**about(path, run), "training_posts_shared_with_first": shared}


def held_out(reward_path: str) -> dict[str, Any]:
    """What the reward model's own stage measured on its test pairs; empty when it left no results.json."""
    path = Path(reward_path) / "results.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): train the reward model anew or delete it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object: train the reward model anew or delete it")
    return {"held_out": found}
