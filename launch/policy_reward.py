"""The reward of a policy stage: which reward models, whether they may be trained against, and where they run.

Left out: how scores become a reward (`reward_model.reward`), and how the gate judges (`reward_model.gate`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from evaluation.devices import choose_dtype, existing_device
from evaluation.policies import require_model
from reward_model.labels import require_use_of_label
from reward_model.model import check_reward_model
from reward_model.reward import ReferenceReward, make_reward
from reward_model.reward_options import RewardOptions, reward_folders, same_model
from reward_model.verdict import read_verdict
from tasks.form import TextForm, response_text
from tasks.run_folder import MAKERS, RunFolder
from trlx.utils.errors import UserError

GATE = "`python -m reward_model.gate --reward_model {}` with the same --root gives one"


def require_reward_models(options: RewardOptions, root: str) -> list[str]:
    """The folders or hub ids of the reward models, in order.

    Raises: UserError for one that is missing, damaged or no reward model, or a label that none has a use for.
    """
    own = str(RunFolder.of(root).reward_model)
    folders = reward_folders(options, own)
    made = f"`{MAKERS['ckpts', 'reward_model']}` with the same --root makes it"
    for folder in folders:
        require_model("reward", folder, made if same_model(folder, own) else "--reward_model names it: check the path")
        check_reward_model(folder, options.reward_label)
    require_use_of_label(options.reward_label, folders)
    return folders


def say_verdicts(stage: str, folders: Sequence[str], accept_failing: bool) -> None:
    """Say aloud what the release gate found of each reward model; call on the main rank only.

    A verdict of other weights than those that lie there (stale) counts as none.

    Args:
        stage: its name, to begin lines on the console with. folders: not those of classifiers, which the gate does not
            judge. accept_failing: go on after a FAIL.

    Raises: UserError after a FAIL, unless that is accepted.
    """
    for folder in folders:
        verdict = read_verdict(folder)
        lines = [f"no verdict of the reward model gate: {GATE.format(folder)}"] if verdict is None else verdict.lines
        for line in lines:
            print(f"[{stage}] {folder}: {line}", flush=True)
        if verdict is None or verdict.stale or verdict.passed:
            continue
        if not accept_failing:
            raise UserError(
                f"{folder} failed its gate: train a better one, or pass --accept-failing-reward-model to go on with it"
            )
        print(f"[{stage}] {folder}: accepted all the same, as --accept-failing-reward-model says", flush=True)


def reward_device(given: str | None) -> str:
    """Where the reward models go: as given, the GPU after the training ranks, or the main rank's own device.

    Raises: UserError for a device that is not here.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if given is not None:
        return str(existing_device(given, gpus))
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpus == 0:
        return "cpu"
    return f"cuda:{ranks_here}" if gpus > ranks_here else "cuda:0"


def policy_reward(options: RewardOptions, form: TextForm, folders: Sequence[str], max_length: int) -> ReferenceReward:
    """The `reward_fn`; the models are loaded at its first call, on the main rank.

    Args:
        form: of the task's texts. folders: of `require_reward_models`. max_length: prompt + response + EOS in tokens.
    """
    device = reward_device(options.reward_device)
    dtype = choose_dtype(options.reward_dtype, torch.device(device))
    return make_reward(options, folders, device, dtype, max_length, response_text, form.cut)
