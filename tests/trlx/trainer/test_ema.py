"""The moving average of the policy's weights: its arithmetic, its checkpoint, its export, and where it is refused.

(Two ranks, with and without DeepSpeed: `tests/trlx/test_two_ranks.py`.)
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_engine import make_rollouts, ppo_config, random_model
from tiny_runs import fresh_accelerate, logged, make_trainer, run, run_until
from torch import nn
from transformers import AutoModelForCausalLM

import trlx
from trlx.data.default_configs import default_ilql_config, default_sft_config
from trlx.data.limits import require_limits
from trlx.data.ppo_types import collate
from trlx.trainer.ema import WeightAverage
from trlx.utils.errors import UserError


class TwoWeights(nn.Module):
    """One that trains and one that does not, each under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.tensor([7.0], dtype=torch.float16), requires_grad=False)
        self.frozen_too = self.frozen


def stand_in_engine(**changes: Any) -> Any:
    """The part of an engine that the average asks, in one process."""
    found = {"is_sharded": False, "skipped": 0, "accelerator": SimpleNamespace(is_main_process=True)}
    return SimpleNamespace(**{**found, "master": lambda weight: weight.detach(), **changes})


def test_the_average_after_three_steps_worked_by_hand() -> None:
    model, engine = TwoWeights(), stand_in_engine()
    model.first.weight.data.fill_(8.0)
    average = WeightAverage(0.75, engine, model)
    for value, skipped in ((4.0, 0), (0.0, 0), (100.0, 1), (-4.0, 0)):
        model.first.weight.data.fill_(value)
        engine.skipped = skipped
        average.update()
    # 8 → .75 · 8 + .25 · 4 = 7 → .75 · 7 = 5.25 → (skipped) → .75 · 5.25 − .25 · 4 = 2.9375, exact in binary
    state = average.policy_state()
    assert {name: value.item() for name, value in state.items()} == {
        "frozen": 7.0,
        "frozen_too": 7.0,
        "first.weight": 2.9375,
        "second.weight": 2.9375,
    }
    assert all(value.dtype == torch.float32 for value in state.values())
    for one, other in (("first.weight", "second.weight"), ("frozen", "frozen_too")):
        assert state[one].data_ptr() == state[other].data_ptr()  # else both would be written
    assert model.first.weight.item() == -4.0
    average.restart()
    assert average.policy_state()["first.weight"].item() == -4.0


def test_without_decay_it_is_the_weights() -> None:
    model = TwoWeights()
    average = WeightAverage(0.0, stand_in_engine(), model)
    model.first.weight.data.fill_(0.1)
    average.update()
    assert torch.equal(average.policy_state()["second.weight"], model.first.weight)


def test_16_bit_weights_have_a_float32_average() -> None:
    """Or a decay near 1 would move nothing."""
    model = TwoWeights().to(torch.bfloat16)
    model.first.weight.data.fill_(1.0)
    average = WeightAverage(0.999, stand_in_engine(), model)
    model.first.weight.data.fill_(0.0)
    average.update()
    assert average.policy_state()["first.weight"].item() == pytest.approx(0.999, abs=1e-6)


def test_only_the_main_rank_keeps_it() -> None:
    engine = stand_in_engine(accelerator=SimpleNamespace(is_main_process=False))
    fetched: list[nn.Parameter] = []
    engine.master = lambda weight: fetched.append(weight) or weight  # a collective that every rank takes part in
    average = WeightAverage(0.5, engine, TwoWeights())
    average.update()
    assert len(fetched) == 2 and average.policy_state() == {}


@pytest.mark.parametrize(
    ("engine", "trains", "words"),
    [
        ({"is_sharded": True}, True, r"train\.ema_decay does not work under ZeRO stage 3: set zero_stage to 2"),
        ({}, False, r"train\.ema_decay: no weight of the policy trains: set model\.num_layers_unfrozen"),
    ],
)
def test_where_it_makes_no_sense_it_is_refused(engine: dict[str, Any], trains: bool, words: str) -> None:
    with pytest.raises(UserError, match=words):
        WeightAverage(0.5, stand_in_engine(**engine), TwoWeights().requires_grad_(trains))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, 99.0])
def test_decays_that_cannot_be_meant(decay: float) -> None:
    with pytest.raises(UserError, match=r"train\.ema_decay must be from 0 to below 1, not"):
        require_limits(default_sft_config().evolve(train={"ema_decay": decay}))
    require_limits(default_sft_config().evolve(train={"ema_decay": 0.0}))


def steps_on(trainer: Any, count: int) -> list[dict[str, torch.Tensor]]:
    """The policy's weights before and after each of so many optimizer steps on invented rollouts."""
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    kept = [{name: value.clone() for name, value in trainer.policy.state_dict().items()}]
    for _ in range(count):
        trainer.train_step([collate(make_rollouts(8), 0)])
        kept.append({name: value.clone() for name, value in trainer.policy.state_dict().items()})
    return kept


def test_a_trainers_average_and_its_export(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, model__num_layers_unfrozen=2, train__ema_decay=0.5)
    trainer = make_trainer(config)
    w0, w1, w2, w3 = steps_on(trainer, 3)
    trainer.save_pretrained(str(tmp_path / "mine"))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "mine_ema").state_dict()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "mine").state_dict()
    assert exported.keys() == plain.keys()
    apart = 0
    for name, value in exported.items():
        expected = w0[name] / 8 + w1[name] / 8 + w2[name] / 4 + w3[name] / 2
        torch.testing.assert_close(value, expected, atol=1e-7, rtol=1e-6, msg=name)
        assert torch.equal(plain[name], w3[name])
        apart += not torch.equal(value, plain[name])
    assert apart > 10
    assert "transformer.wte.weight" in exported and torch.equal(
        exported["transformer.wte.weight"], w0["transformer.wte.weight"]
    )  # frozen
    assert not (tmp_path / "mine_ema" / "heads.safetensors").exists()
    assert (tmp_path / "mine_ema" / "tokenizer.json").exists()


def saved(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "ema.pt", weights_only=True))


def test_a_resumed_run_ends_with_the_same_average(tmp_path: Path, tokenizer_folder: str) -> None:
    """Killed in the second phase's rollouts, after four steps of six."""
    given = {"train__ema_decay": 0.9, "train__resume_interval": 1, "train__total_steps": 6}
    whole = run(ppo_config(tmp_path / "whole", tokenizer_folder, **given))
    config = ppo_config(tmp_path / "cut", tokenizer_folder, **given)
    run_until(5, config)
    resumed = run(config.evolve(train={"resume_from_checkpoint": "auto"}))
    assert resumed.iter_count == whole.iter_count == 6
    expected, got = (saved(tmp_path / name / "checkpoint_6") for name in ("whole", "cut"))
    assert expected.keys() == got.keys() and all(torch.equal(value, got[name]) for name, value in expected.items())
    exports = [
        (tmp_path / name / "checkpoint_6" / "hf_model_ema" / "model.safetensors").read_bytes()
        for name in ("whole", "cut")
    ]
    assert exports[0] == exports[1]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "cut" / "checkpoint_6" / "hf_model_ema").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in got.items())
    assert {path.parent.name for path in (tmp_path / "cut").glob("*/hf_model_ema")} >= {
        "best_checkpoint",
        "resume_checkpoint",
    }


def test_a_checkpoint_without_an_average_begins_one(
    tmp_path: Path, tokenizer_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder))
    steps_on(trainer, 1)
    trainer.save(str(tmp_path / "checkpoint_1"))
    assert not list(tmp_path.rglob("*ema*"))  # nothing is written that was not asked for
    other = make_trainer(ppo_config(tmp_path, tokenizer_folder, train__ema_decay=0.5))
    other.load(str(tmp_path / "checkpoint_1"))
    assert "has no moving average: it begins at that checkpoint's weights" in caplog.text
    now = trainer.policy.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in other.ema.policy_state().items())
    # And one that is not asked for any more is let go of.
    other.save(str(tmp_path / "checkpoint_2"))
    trainer.load(str(tmp_path / "checkpoint_2"))
    trainer.save(str(tmp_path / "checkpoint_2"))
    assert not list((tmp_path / "checkpoint_2").rglob("*ema*"))


def test_going_back_takes_the_average_back(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, train__ema_decay=0.5))
    steps_on(trainer, 1)
    trainer.save(str(tmp_path / "checkpoint_1"))
    before = {name: value.clone() for name, value in trainer.ema.average.items()}
    steps_on(trainer, 1)
    assert any(not torch.equal(value, before[name]) for name, value in trainer.ema.average.items())
    trainer.checkpointer.load(tmp_path / "checkpoint_1")
    assert all(torch.equal(value, before[name]) for name, value in trainer.ema.average.items())


def test_adapters_are_averaged_and_merged(tmp_path: Path, tokenizer_folder: str) -> None:
    pytest.importorskip("peft", reason="adapters need peft")
    random_model(seed=3).save_pretrained(tmp_path / "base")
    lora = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    config = ppo_config(
        tmp_path / "run",
        tokenizer_folder,
        model__model_path=str(tmp_path / "base"),
        model__peft_config=lora,
        train__ema_decay=0.5,
        optimizer__kwargs__lr=1e-2,
    )
    trainer = make_trainer(config)
    steps_on(trainer, 2)
    assert all("lora_" in name for name in trainer.ema.average)
    trainer.save_pretrained(str(tmp_path / "mine"))
    exported, base = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("mine_ema", "base"))
    key = "transformer.h.3.attn.attention.q_proj"
    a, b = (trainer.ema.average[f"base_model.model.{key}.lora_{which}.default.weight"] for which in "AB")
    scale = 8 / 4  # peft's default alpha over the rank
    expected = base.state_dict()[f"{key}.weight"] + scale * b @ a
    torch.testing.assert_close(exported.state_dict()[f"{key}.weight"], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("method", ["sft", "ilql"])
def test_other_methods_have_one_too(tmp_path: Path, tokenizer_folder: str, method: str) -> None:
    make = default_sft_config if method == "sft" else default_ilql_config
    random_model().save_pretrained(tmp_path / "base")
    config = make().evolve(
        model={"model_path": str(tmp_path / "base"), "num_layers_unfrozen": 1},
        tokenizer={"tokenizer_path": tokenizer_folder},
        train={
            **{"checkpoint_dir": str(tmp_path / "run"), "tracker": None, "ema_decay": 0.5, "total_steps": 2},
            **{"batch_size": 2, "seq_length": 24, "eval_interval": 99},
        },
        method={"gen_kwargs": {"max_new_tokens": 2}},
    )
    fresh_accelerate()
    texts = [["one", " two"], ["three", " four"], ["five", " six"], ["seven", " eight"]]
    rewards = {} if method == "sft" else {"rewards": [1.0, 2.0, 3.0, 4.0]}
    trainer: Any = trlx.train(config=config, samples=texts, eval_prompts=["a"], **rewards)
    assert trainer.iter_count == 2 and len(logged(trainer, "losses/total_loss")) == 2
    (folder,) = (tmp_path / "run").glob("checkpoint_2/hf_model_ema")
    exported = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(exported[name], value) for name, value in trainer.ema.policy_state().items())
    now = trainer.policy.state_dict()
    assert any(not torch.equal(exported[name], value) for name, value in now.items())
