"""The options that say what the reward is: which reward models, how several are combined, what length costs.

They are the base of the options of every stage that trains against a reward model. Left out: where a reward model lies
by default, which the stage knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, NOT_NEGATIVE, require_ranges

Combine = Literal["mean", "min", "mean_minus_std"]
RANGES = {
    "reward_batch_size": AT_LEAST_1,
    "reward_std_weight": NOT_NEGATIVE,
    "length_penalty": NOT_NEGATIVE,
    "length_free": AT_LEAST_0,
}


@dataclass
class RewardOptions:
    """Options of the reward.

    Args:
        reward_model: its folder or hub id, or several separated by commas; null for root/ckpts/reward_model.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        reward_combine: how several become one: their mean, the least, or the mean minus their standard deviation.
        reward_std_weight: times the standard deviation, for mean_minus_std.
        length_penalty: reward points taken off for each response token over length_free; 0 for none.
        length_free: response tokens (EOS is one) that cost nothing.
        reward_relative: subtract the reference summary's score from the sample's.
        reward_batch_size: texts scored at once.
        reward_dtype: of the reward model; auto is bfloat16 on a GPU.
        reward_device: null for the GPU after the training ranks, else the main rank's device.
        accept_failing_reward_model: train against a reward model that failed its gate.
    """

    reward_model: str | None = None
    reward_label: str | None = None
    reward_combine: Combine = "mean"
    reward_std_weight: float = 1.0
    length_penalty: float = 0.0
    length_free: int = 32
    reward_relative: bool = True
    reward_batch_size: int = 32
    reward_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    reward_device: str | None = None
    accept_failing_reward_model: bool = False


def reward_folders(options: RewardOptions, default: str) -> list[str]:
    """The reward models named, in order; `default` when none is.

    Raises: UserError for an empty name, a model named twice (also by another path, or as a copy), or a way to combine
        that needs several.
    """
    named = [default] if options.reward_model is None else [part.strip() for part in options.reward_model.split(",")]
    if not all(named):
        raise UserError(f"--reward_model {options.reward_model!r} names nothing between commas: give A or A,B")
    for first, other in combinations(named, 2):
        if same_model(first, other):
            alias = "" if first == other else f" (as {other})"
            raise UserError(f"--reward_model names {first} twice{alias}: an ensemble needs models that differ")
    if len(named) == 1 and options.reward_combine != "mean":
        raise UserError(f"--reward_combine {options.reward_combine} needs several models: give --reward_model A,B")
    return named


def same_model(first: str, other: str) -> bool:
    """Whether two folders or hub ids are one model: the same place, or folders with the same files of weights."""
    places = Path(first).resolve(), Path(other).resolve()
    if places[0] == places[1]:
        return True
    weighed = all(any(place.glob("*.safetensors")) for place in places)
    return weighed and model_digest(places[0]) == model_digest(places[1])


def check_reward_options(options: RewardOptions) -> None:
    """Refuse numbers that cannot be meant. Raises: UserError naming the option and its range."""
    require_ranges(options, RANGES)
