"""Which policies a frontier compares: the SFT model and whatever PPO and RFT have left under a run's root."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from evaluation.policies import require_model
from tasks.run_folder import MAKERS, RunFolder, maker_of
from trlx.utils.checkpoints import STATE_FILE
from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError

BASELINE = "sft"


@dataclass(frozen=True)
class Policy:
    """One model to sample from.

    Args:
        kind: sft, ppo (the best by reward), ppo_checkpoint, ppo_heldout (the best by another score), rft or model.
        path: folder or hub id. step: of training, where known. content: digest of its weights.
    """

    name: str
    kind: str
    path: str
    step: int | None
    content: str


def find_policies(
    run: RunFolder, sft: str | None, others: str, checkpoints: int | None
) -> tuple[list[Policy], list[str]]:
    """The policies of a run, SFT first, and a line for each kind that is not there.

    Args:
        sft: its folder or hub id; None for the run's own.
        others: `"name=path,..."`, more models to place; may be empty.
        checkpoints: how many of PPO's at most, evenly spaced, the last among them; None for all.

    Raises: UserError when the SFT model or one of `others` is not there or damaged.
    """
    path = sft or str(run.sft)
    require_model("SFT", path, f"`{MAKERS['ckpts', 'sft']}` with the same --root makes it, or name it with --sft")
    found = [_policy(BASELINE, "sft", path, None), *_of_ppo(run, checkpoints)]
    if _is_model(run.rft_policy):
        found.append(_policy("rft", "rft", str(run.rft_policy), _step(run.rft_policy.parent)))
    found += _others(others, {policy.name for policy in found})
    wanted = {"ppo": run.best_policy, "rft": run.rft_policy}
    kinds = {policy.kind for policy in found}
    return found, [_absent(kind, path, run) for kind, path in wanted.items() if kind not in kinds]


def _absent(kind: str, path: Path, run: RunFolder) -> str:
    where = path.relative_to(run.root).as_posix()
    return f"No {kind.upper()}: {where} is not there; `{maker_of(path)}` with the same --root makes it"


def _of_ppo(run: RunFolder, most: int | None) -> list[Policy]:
    folders = {"ppo": run.best_policy, "ppo_heldout": run.best_heldout_policy}
    best = [_policy(kind, kind, str(path), _step(path.parent)) for kind, path in folders.items() if _is_model(path)]
    along = checkpoints_of(run.ckpts)
    return best + [
        _policy(f"checkpoint_{step}", "ppo_checkpoint", str(along[step]), step) for step in spaced(list(along), most)
    ]


def checkpoints_of(folder: Path) -> dict[int, Path]:
    """Step → model of every whole checkpoint_N in PPO's folder, in order."""
    found = {}
    for path in folder.glob("checkpoint_*"):
        number = re.fullmatch(r"checkpoint_(\d+)", path.name)
        if number and _is_model(path / "hf_model"):
            found[int(number.group(1))] = path / "hf_model"
    return dict(sorted(found.items()))


def spaced(steps: list[int], most: int | None) -> list[int]:
    """At most so many, evenly spaced by place, the last among them."""
    if most is None or len(steps) <= most:
        return steps
    return [steps[round((place + 1) * len(steps) / most) - 1] for place in range(most)]


def _others(text: str, taken: set[str]) -> list[Policy]:
    policies: list[Policy] = []
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        name, _, path = entry.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not path:
            raise UserError(f"--models: '{entry}' is not name=path")
        if name in taken:
            raise UserError(f"--models: '{name}' is the name of another policy; call it otherwise")
        require_model(name, path, "check the path in --models")
        policies.append(_policy(name, "model", path, None))
        taken.add(name)
    return policies


def _policy(name: str, kind: str, path: str, step: int | None) -> Policy:
    content = model_digest(path) if Path(path).is_dir() else path
    return Policy(name, kind, path, step, content)


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


def _step(checkpoint: Path) -> int | None:
    """The step that a checkpoint was written at, where its state says so."""
    try:
        step = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["iter_count"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
