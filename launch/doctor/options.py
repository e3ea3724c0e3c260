"""What the doctor is asked to look at, and the models it finds below a root by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tasks.run_folder import DEFAULT_ROOT, RunFolder
from trlx.utils.errors import UserError, nearest
from trlx.utils.pretrained import load_config
from trlx.utils.ranges import POSITIVE, Range, require_ranges

GROUPS = ("versions", "devices", "bandwidth", "disk", "hub", "deepspeed", "tokenizers", "models")
RANGES = {"temperature": POSITIVE, "num_layers_unfrozen": Range("-1 or more", -1)}


@dataclass
class DoctorOptions:
    """Options of the doctor.

    Args:
        root: the run's root folder: its disk is looked at, and the models below it where none are given.
        policy: a folder or hub id of the model that PPO starts from; by default `root/ckpts/sft` where there is one.
        reward_model: the same of the reward model; by default `root/ckpts/reward_model` where there is one.
        reward_label: of a text classifier, the label that is the reward; null for what its config.json says.
        num_layers_unfrozen: blocks of the policy that PPO trains, from the top; -1 for all (more memory).
        temperature: PPO's sampling temperature.
        device: where models are run, e.g. cuda:0; null for the first GPU, or the CPU where there is none.
        skip: groups of checks to leave out: versions, devices, bandwidth, disk, hub, deepspeed, tokenizers, models.
    """

    root: str = DEFAULT_ROOT
    policy: str | None = None
    reward_model: str | None = None
    reward_label: str | None = None
    num_layers_unfrozen: int = 2
    temperature: float = 1.0
    device: str | None = None
    skip: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Models:
    """The models to look at, each a role → a folder or hub id.

    Args:
        policies: of one tokenizer; the first is what PPO starts from. reward_models: scored as they stand.
        reward_label: of those that are text classifiers; None for what their configs say.
    """

    policies: dict[str, str]
    reward_models: dict[str, str]
    reward_label: str | None = None


def check_options(options: DoctorOptions) -> None:
    """Refuse options that cannot be meant. Raises: UserError naming the option."""
    require_ranges(options, RANGES)
    for name in options.skip:
        if name not in GROUPS:
            raise UserError(f"--skip: no group of checks is called '{name}'{nearest(name, GROUPS)}")


def models_of(options: DoctorOptions) -> Models:
    """The models given; where one is not, those that the stages have left below the root."""
    run = RunFolder.of(options.root)
    start = {"policy": options.policy} if options.policy else _there({"sft": run.sft})
    trained = {"best policy": run.best_policy, "best held-out policy": run.best_heldout_policy}
    policies = start | (_there(trained) if not options.policy else {})
    if options.reward_model:
        return Models(policies, {"reward model": options.reward_model}, options.reward_label)
    judges = {"reward model": run.reward_model, "second reward model": run.second_reward_model}
    return Models(policies, _there(judges), options.reward_label)


def is_reward_model(path: str) -> bool:
    """Whether a folder or hub id holds a sequence classifier. Raises: UserError when its config cannot be read."""
    return any("SequenceClassification" in kind for kind in load_config(path).architectures or [])


def _there(folders: dict[str, Path]) -> dict[str, str]:
    return {role: str(folder) for role, folder in folders.items() if (folder / "config.json").is_file()}
