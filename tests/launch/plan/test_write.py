"""The commands that a plan proposes are ones that the stages take, with what was planned for in them."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from launch.plan.memory import Setting
from launch.plan.options import STAGES, PlanOptions
from launch.plan.write import SCRIPTS, command_of
from reward_model.train_reward_model_gptneo import RewardOptions
from sft.train_gptneo_summarize import SftOptions
from trlx.utils.cli import parse_config
from trlx_gptneo_text_summarization import PPOOptions
from trlx_inference_gptneo import InferenceOptions

TAKEN = {"sft": SftOptions, "reward_model": RewardOptions, "ppo": PPOOptions, "evaluation": InferenceOptions}
OTHERS = {"policy": "my models/one", "reward": "two", "max_length": 96, "response": 12, "frozen_fraction": 0.5}
OTHERS |= {"ppo_epochs": 3, "critic": "reward", "num_layers_unfrozen": 2}


def parsed(stage: str, options: PlanOptions, setting: Setting) -> Any:
    job: Any = SimpleNamespace(options=options)
    words = shlex.split(command_of(stage, job, setting, "PLAN"))
    return parse_config(TAKEN[stage], "", words[words.index(SCRIPTS[stage]) + 1 :])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("setting", [Setting(), Setting(ranks=2, zero=2, gpu=True, precision="bf16")])
def test_the_pipelines_own_sizes_need_no_more_options(stage: str, setting: Setting) -> None:
    ours, stages = parsed(stage, PlanOptions(), setting), parse_config(TAKEN[stage], "", [])
    if stage == "ppo":
        assert ours.method == stages.method and ours.train.seq_length == stages.train.seq_length
    else:
        assert ours.max_length == stages.max_length and ours.batch_size == setting.microbatch


def test_what_was_planned_for_is_in_the_commands() -> None:
    options = PlanOptions(**OTHERS)
    sft, reward = (parsed(stage, options, Setting()) for stage in ("sft", "reward_model"))
    assert (sft.model, sft.max_length, sft.max_new_tokens) == ("my models/one", 96, 12)
    assert (reward.model, reward.max_length, reward.frozen_fraction) == ("two", 96, 0.5)
    ppo, evaluation = (parsed(stage, options, Setting()) for stage in ("ppo", "evaluation"))
    assert (ppo.train.seq_length, ppo.method.gen_kwargs["max_new_tokens"], ppo.method.ppo_epochs) == (96, 12, 3)
    assert ppo.model.critic_path == "{root}/ckpts/reward_model" and ppo.model.num_layers_unfrozen == 2
    assert (evaluation.max_length, evaluation.max_new_tokens) == (96, 12)
