"""The miniature's other reward models differ from the first in what they must, and in nothing else."""

from __future__ import annotations

import pytest

from reward_model.train_reward_model_gptneo import RewardOptions
from tasks.run_folder import REPO, RunFolder, fill_places
from trlx.utils.cli import parse_config

PACE = {"batch_size", "max_steps", "eval_steps", "seed", "gate"}


def options(name: str) -> RewardOptions:
    config = str(REPO / "configs" / "tiny" / f"{name}.yaml")
    return fill_places(parse_config(RewardOptions, "", ["--config", config, "--root", "r"]), "r")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("second_reward_model", {"out", "train_split"}),
        ("biased_reward_model", {"out", "data", "test_data"}),
    ],
)
def test_only_pairs_pace_and_folder_differ(name: str, meant: set[str]) -> None:
    first, other = vars(options("reward_model")), vars(options(name))
    assert {key for key in first if first[key] != other[key]} - PACE == meant


def test_what_they_read_and_where_they_go() -> None:
    second, biased, run = options("second_reward_model"), options("biased_reward_model"), RunFolder.of("r")
    assert second.out == str(run.second_reward_model) and second.train_split == "second"
    assert biased.out == str(run.root / "ckpts" / "biased_reward_model")
    assert biased.data == str(run.root / "data" / "comparisons_biased")
    assert biased.test_data == second.data == str(run.root / "data" / "comparisons")  # whose labels are gold's
