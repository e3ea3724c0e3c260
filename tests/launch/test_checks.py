"""What must be there before a stage begins: a model to start from, room for as many checkpoints as it will keep."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from launch.checks import (
    ppo_checkpoint_bytes,
    ppo_copies,
    require_ppo_room,
    require_stage_room,
    require_start,
    stage_checkpoint_bytes,
)
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config, default_sft_config
from trlx.utils.errors import UserError

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "ckpts/sft",
            "`deepspeed sft/train_gptneo_summarize.py` with the same --root makes it, or name another with --x",
        ),
        ("ckpts/reward_model", "`deepspeed reward_model/train_reward_model_gptneo.py` with the same --root makes it"),
        ("ckpts/best_checkpoint/hf_model", "`accelerate launch trlx_gptneo_text_summarization.py` with the same"),
        ("base", "`python -m tasks.scratch_model` with the same --root makes it"),
        ("elsewhere", "elsewhere: name another with --x"),
    ],
)
def test_a_missing_start_names_its_maker(tmp_path: Path, place: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        require_start(str(tmp_path / place), "--x")
    assert str(refused.value).startswith(f"no finished model in {tmp_path / place}: ") and words in str(refused.value)


def test_a_start_that_may_be_there(tmp_path: Path) -> None:
    require_start("EleutherAI/gpt-neo-1.3B")
    (tmp_path / "config.json").write_text("{}")
    require_start(str(tmp_path))


@pytest.mark.parametrize(
    ("deepspeed", "half", "sharded", "expected"),
    [
        (False, False, False, 4 * 100 + 8 * 30),
        (False, True, False, 4 * 100 + 8 * 30),  # the weights stay float32 under autocast
        (True, True, False, 2 * 200 + 12 * 30),
        (True, False, False, 2 * 400 + 12 * 30),
        (True, True, True, 200 + 140 + 12 * 30),
        (True, False, True, 400 + 280 + 12 * 30),
    ],
)
def test_bytes_of_a_stage(deepspeed: bool, half: bool, sharded: bool, expected: int) -> None:
    assert stage_checkpoint_bytes(100, 30, deepspeed, half, sharded) == expected


def test_room_for_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(10, 10)  # 110 weights, of which 10 train: 440 + 80 bytes, thrice
    model.weight.requires_grad_(False)
    free = 1560
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, free))
    require_stage_room(tmp_path / "out", model, deepspeed=False, half=False, copies=3)
    free = 1559
    with pytest.raises(UserError, match="3 checkpoints of this stage will take about"):
        require_stage_room(tmp_path / "out", model, deepspeed=False, half=False, copies=3)
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-5" / "weights").write_bytes(b"x")  # will be replaced, so its byte counts as free
    require_stage_room(tmp_path / "out", model, deepspeed=False, half=False, copies=3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            1 + 1 + 2 + 1,
        ),  # 6400 steps: the last, the best, the rolling one and the one before it, the one being written
        ({"train.checkpoint_interval": 1000}, 7 + 4),
        ({"train.checkpoint_interval": 1000, "train.keep_checkpoints": 2}, 2 + 4),
        ({"train.checkpoint_interval": 1000, "train.total_steps": 1500}, 2 + 4),
        ({"train.save_best": False}, 1 + 2 + 1),
        ({"train.heldout_metric": "metrics/gold"}, 1 + 2 + 2 + 1),  # and the best by that
        ({"train.resume_interval": 0}, 1 + 1 + 1),
        ({"train.save_optimizer": False}, 1 + 1 + 1),  # nothing to resume from
        ({"train.total_steps": 100}, 1 + 1 + 1),  # over before the first rolling one
        ({"method.num_rollouts": 130, "method.chunk_size": 128, "train.checkpoint_interval": 6400}, 2 + 4),
    ],
)
def test_copies_of_a_ppo_run(changes: dict[str, Any], expected: int) -> None:
    plan = {"train.epochs": 50, "train.batch_size": 4, "train.total_steps": 10**6, "train.checkpoint_interval": 10**4}
    sizes = {"method.ppo_epochs": 4, "method.num_rollouts": 128, "method.chunk_size": 16}
    assert ppo_copies(TRLConfig.update(default_ppo_config(), {**plan, **sizes, **changes})) == expected


def test_copies_of_another_method_go_by_its_steps() -> None:
    config = default_sft_config().evolve(train={"total_steps": 2500, "checkpoint_interval": 1000})
    assert ppo_copies(config) == 3 + 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks of 8 · 8 weights: 16 · 8 tokens, 32 · 8 positions, 2 · 888 in the blocks, 16 in the last norm."""
    folder = tmp_path_factory.mktemp("model")
    sizes = {"vocab_size": 16, "hidden_size": 8, "num_layers": 2, "num_heads": 1, "max_position_embeddings": 32}
    config = GPTNeoConfig(**sizes, attention_types=[[["global"], 2]], bos_token_id=0, eos_token_id=0)
    GPTNeoForCausalLM(config).save_pretrained(folder)
    return folder


BLOCK = 2 * 16 + 3 * 64 + 72 + (8 * 32 + 32) + (32 * 8 + 8)  # norms, q k v, out, mlp
WHOLE = 16 * 8 + 32 * 8 + 2 * BLOCK + 16


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_layers_unfrozen": 1}, 8 * WHOLE + 12 * BLOCK),
        ({"num_layers_unfrozen": 2}, 8 * WHOLE + 24 * BLOCK),
        ({"num_layers_unfrozen": 0}, 8 * WHOLE),
        ({"num_layers_unfrozen": -1}, 20 * WHOLE),
        ({"num_layers_unfrozen": -1, "peft_config": {"peft_type": "LORA"}}, 8 * WHOLE),
        ({"num_layers_unfrozen": 1, "critic_path": "MODEL"}, 8 * WHOLE + 12 * BLOCK + 16 * WHOLE),
    ],
)
def test_bytes_of_a_ppo_checkpoint(model: Path, changes: dict[str, Any], expected: int) -> None:
    given = {key: str(model) if value == "MODEL" else value for key, value in changes.items()}
    config = default_ppo_config().evolve(model={"model_path": str(model), **given})
    assert ppo_checkpoint_bytes(config) == expected
    assert sum(w.numel() for w in GPTNeoForCausalLM.from_pretrained(model).parameters()) == WHOLE
    only_weights = config.evolve(train={"save_optimizer": False})
    critic = 4 * WHOLE if "critic_path" in changes else 0
    assert ppo_checkpoint_bytes(only_weights) == 4 * WHOLE + critic
    assert ppo_checkpoint_bytes(only_weights.evolve(train={"ema_decay": 0.9})) == 8 * WHOLE + critic


def test_a_moving_average_takes_room_too(model: Path) -> None:
    config = default_ppo_config().evolve(
        model={"model_path": str(model), "num_layers_unfrozen": 1}, train={"ema_decay": 0.9}
    )
    # Adam's moments, the frozen copy and the average, 4 bytes each; the average as a model
    assert ppo_checkpoint_bytes(config) == 12 * WHOLE + 16 * BLOCK


def test_room_for_ppo(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = default_ppo_config().evolve(model={"model_path": str(model)}, train={"checkpoint_dir": str(tmp_path)})
    needed = ppo_copies(config) * ppo_checkpoint_bytes(config)
    free = needed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, free))
    require_ppo_room(config)
    free = needed - 1
    with pytest.raises(UserError, match=r"keep fewer with --train.keep_checkpoints, or choose another --root"):
        require_ppo_room(config)
    (tmp_path / "old").write_bytes(b"x")
    require_ppo_room(config, [tmp_path / "old"])
    assert torch.get_default_device().type == "cpu"  # the model without weights was made on another one
