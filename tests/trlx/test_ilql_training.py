"""Whole runs of ILQL by `trlx.train` in one process, of a model small enough for seconds."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_engine import EOS, VOCAB, neo_config
from tiny_runs import fresh_accelerate
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, T5Config

import trlx
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ilql_config, default_ppo_config
from trlx.models.modeling_ilql import AutoModelForCausalLMWithILQLHeads
from trlx.trainer.accelerate_ilql_trainer import AccelerateILQLTrainer
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

SPREADS = ("values", "qvalues/0", "qvalues/1", "awac_weight")
METRICS = [
    *(f"losses/{name}" for name in ("loss", "loss_q", "loss_v", "loss_cql", "loss_awac", "total_loss")),
    *(f"{group}/{name}" for group in SPREADS for name in ("mean", "min", "max", "std")),
]


@pytest.fixture(autouse=True)
def fresh() -> None:
    fresh_accelerate()


def ilql_config(folder: Path, tokenizer_folder: str, **overrides: Any) -> TRLConfig:
    """ILQL of a tiny GPT-Neo; overrides are dotted with "__" for "."."""
    changes: dict[str, Any] = {
        "train.seq_length": 24,
        "train.epochs": 2,
        "train.batch_size": 8,
        "train.eval_interval": 1000,
        "train.checkpoint_dir": str(folder),
        "train.resume_interval": 0,
        "train.tracker": None,
        "tokenizer.tokenizer_path": tokenizer_folder,
        "method.alpha": 0.1,
        "method.beta": 0.5,
        "method.steps_for_target_q_sync": 2,
        "method.gen_kwargs": {"beta": 1, "top_k": 0, "max_new_tokens": 2, "temperature": 1.0},
        "optimizer.kwargs.lr": 5e-3,
        "scheduler.name": "constant",
    }
    config = TRLConfig.update(default_ilql_config(), changes)
    config.scheduler.kwargs = {}
    model = overrides.pop("model__model_path", None) or neo_config(layers=2)
    config = TRLConfig.update(config, {name.replace("__", "."): value for name, value in overrides.items()})
    config.model.model_path = model
    return config


def dialogues(count: int = 16) -> tuple[list[list[str]], list[float]]:
    """Of ragged lengths, some of two turns."""
    samples = [["q" * (1 + i % 3), "ab"[i % 2] * (1 + i % 4)] + ["r", "c" * (i % 3)] * (i % 2) for i in range(count)]
    return samples, [float(i % 5) for i in range(count)]


def run(config: TRLConfig, **options: Any) -> AccelerateILQLTrainer:
    samples, rewards = dialogues()
    given = {"samples": samples, "rewards": rewards, "eval_prompts": ["q", "qq"], **options}
    return trlx.train(config=config, **given)  # type: ignore[return-value]


def weights(trainer: AccelerateILQLTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.unwrapped_model.state_dict().items()}


def share_of_a(samples: list[str], prompts: list[str], outputs: list[str]) -> dict[str, list[float]]:
    return {"a": [float(output.startswith("a")) for output in outputs]}


def test_beta_raises_the_share_of_rewarded_tokens(tmp_path: Path, tokenizer_folder: str) -> None:
    """The samples answer with one of four letters alike often; only "a" is rewarded."""
    config = ilql_config(
        tmp_path,
        tokenizer_folder,
        train__epochs=8,
        train__batch_size=64,
        method__beta=0.0,
        method__steps_for_target_q_sync=1,
    )
    config.method.gen_kwargs["beta"] = [0, 4]
    letters = random.Random(0)
    samples = [("q", letters.choice("abcd")) for _ in range(256)]
    rewards = [float(output == "a") for _, output in samples]
    run(config, samples=samples, rewards=rewards, eval_prompts=["q"] * 64, metric_fn=share_of_a)
    last = [line for line in read_metrics(tmp_path / "logs") if "metrics/a@beta=0" in line][-1]
    assert 0.1 < last["metrics/a@beta=0"] < 0.45  # the data's own share is a quarter
    assert last["metrics/a@beta=4"] > 0.8


def test_metrics(tmp_path: Path, tokenizer_folder: str) -> None:
    run(ilql_config(tmp_path, tokenizer_folder))
    lines = [line for line in read_metrics(tmp_path / "logs") if "losses/loss" in line]
    assert len(lines) == 4  # two epochs of two batches
    for line in lines:
        assert all(line[name] is not None for name in METRICS), [n for n in METRICS if line.get(n) is None]
        parts = line["losses/loss_q"] + line["losses/loss_v"] + 0.1 * line["losses/loss_cql"] + line["losses/loss_awac"]
        assert line["losses/loss"] == pytest.approx(parts, rel=1e-5)


def test_microbatches_change_nothing(tmp_path: Path, tokenizer_folder: str) -> None:
    ends = []
    for size in (8, 2, 1):
        config = ilql_config(
            tmp_path / str(size), tokenizer_folder, train__minibatch_size=size, train__epochs=1, optimizer__name="sgd"
        )
        config.optimizer.kwargs = {"lr": 0.5}
        ends.append(weights(run(config)))
    for end in ends[1:]:
        for name, value in ends[0].items():
            torch.testing.assert_close(end[name], value, atol=2e-6, rtol=1e-5, msg=name)


def test_targets_follow_every_other_optimizer_step(tmp_path: Path, tokenizer_folder: str) -> None:
    synced: list[int] = []

    class Watched(AccelerateILQLTrainer):
        def after_optimizer_step(self) -> None:
            before = self.unwrapped_model.ilql_heads.target_q_heads[0][0].weight.clone()
            super().after_optimizer_step()
            if not torch.equal(before, self.unwrapped_model.ilql_heads.target_q_heads[0][0].weight):
                synced.append(self.iter_count)

    trainer = Watched(ilql_config(tmp_path, tokenizer_folder))
    trainer.make_experience(*dialogues(), max_length=24)
    trainer.learn()
    assert synced == [2, 4]


def test_checkpoint(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = run(ilql_config(tmp_path, tokenizer_folder))
    folder = tmp_path / f"checkpoint_{trainer.iter_count:0{len(str(trainer.total_steps))}d}" / "hf_model"
    ids = torch.randint(1, VOCAB, (2, 6))
    plain = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, trainer.policy(ids).logits, atol=1e-5, rtol=1e-5)
    heads = load_file(folder / "heads.safetensors")
    kept = weights(trainer)
    assert {name for name in kept if name.startswith("ilql_heads.")} == set(heads)
    assert all(torch.equal(kept[name], value) for name, value in heads.items())
    again = AutoModelForCausalLMWithILQLHeads.from_pretrained(str(folder))
    torch.testing.assert_close(again(ids)[2][0], trainer.unwrapped_model(ids)[2][0], atol=1e-5, rtol=1e-5)
    fresh = AccelerateILQLTrainer(ilql_config(tmp_path / "new", tokenizer_folder, model__model_path=str(folder)))
    assert torch.equal(fresh.unwrapped_model(ids)[1][0], trainer.unwrapped_model(ids)[1][0])  # heads go on too


def test_resuming_is_as_if_never_stopped(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ilql_config(tmp_path / "whole", tokenizer_folder, train__epochs=3, train__checkpoint_interval=3)
    whole = weights(run(config))
    checkpoint = tmp_path / "whole" / "checkpoint_3"  # in the middle of the second epoch, after one synchronisation
    assert json.loads((checkpoint / "trainer_state.json").read_text())["epoch"] == 1
    resumed = ilql_config(
        tmp_path / "resumed", tokenizer_folder, train__epochs=3, train__resume_from_checkpoint=str(checkpoint)
    )
    trainer = run(resumed)
    assert trainer.iter_count == 6
    for name, value in weights(trainer).items():
        torch.testing.assert_close(value, whole[name], atol=1e-7, rtol=0, msg=name)
    start = load_file(checkpoint / "hf_model" / "heads.safetensors")
    name = "ilql_heads.target_q_heads.0.0.weight"
    assert not torch.equal(start[name], whole[name])  # so the targets did have to be restored


def test_generate_is_steered(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = AccelerateILQLTrainer(ilql_config(tmp_path, tokenizer_folder))
    with torch.no_grad():
        for head in trainer.unwrapped_model.ilql_heads.target_q_heads:
            head[2].bias[77] += 50.0
    ids = torch.full((2, 3), 9)
    made = trainer.generate(ids, beta=10.0)
    assert made.shape == (2, 5) and made[:, 3:].eq(77).all()
    assert torch.equal(trainer.generate_eval(ids, torch.ones_like(ids), beta=10.0), made)
    greedy = trainer.generate_eval(ids, beta=0, temperature=0, max_new_tokens=4)
    expected = trainer.policy.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=4, pad_token_id=EOS
    )
    assert torch.equal(greedy, expected)
    forbidden = torch.zeros(VOCAB, VOCAB, dtype=torch.bool)
    forbidden[:, 77] = True
    trainer.logit_mask = forbidden
    assert not trainer.generate(ids, beta=10.0)[:, 3:].eq(77).any()


def test_an_encoder_decoder(tmp_path: Path, tokenizer_folder: str) -> None:
    t5 = T5Config(
        vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=256,
        eos_token_id=EOS, pad_token_id=EOS,
    )  # fmt: skip
    config = ilql_config(
        tmp_path,
        tokenizer_folder,
        model__model_path=t5,
        model__model_arch_type="seq2seq",
        model__num_layers_unfrozen=1,
        train__epochs=8,
        train__batch_size=64,
        method__steps_for_target_q_sync=1,
        optimizer__kwargs__lr=2e-2,
    )
    config.method.gen_kwargs["beta"] = [0, 4]
    letters = random.Random(0)
    samples = [("q", letters.choice("abcd")) for _ in range(256)]
    rewards = [float(output == "a") for _, output in samples]
    trainer = run(config, samples=samples, rewards=rewards, eval_prompts=["q"] * 64, metric_fn=share_of_a)
    last = [line for line in read_metrics(tmp_path / "logs") if "metrics/a@beta=0" in line][-1]
    assert last["metrics/a@beta=4"] > last["metrics/a@beta=0"] + 0.3
    ids = torch.randint(1, VOCAB, (2, 6))
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / f"checkpoint_{trainer.iter_count}" / "hf_model")
    with torch.no_grad():
        ours = trainer.policy(ids, decoder_input_ids=ids).logits
        assert torch.equal(plain(ids, decoder_input_ids=ids).logits, ours)


def test_adapters(tmp_path: Path, tokenizer_folder: str) -> None:
    pytest.importorskip("peft")
    config = ilql_config(tmp_path, tokenizer_folder, train__total_steps=2)
    config.model.peft_config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "v_proj"]}
    trainer = run(config)
    ids = torch.randint(1, VOCAB, (2, 6))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint_2" / "hf_model")
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, trainer.policy(ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"beta": -1, "temprature": 1},
            r"unknown generation option 'gen_kwargs\.temprature'; did you mean 'temperature'",
        ),
        ({"temperature": -1}, "'temperature' is -1"),
        ({"beta": [1, "x"]}, "'beta' must be a number, not 'x'"),
    ],
)
def test_wrong_generation_options(tmp_path: Path, tokenizer_folder: str, changes: dict[str, Any], message: str) -> None:
    config = ilql_config(tmp_path, tokenizer_folder)
    config.method.gen_kwargs.update(changes)
    with pytest.raises(UserError, match=message):
        AccelerateILQLTrainer(config)


def test_wrong_data(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ilql_config(tmp_path, tokenizer_folder)
    with pytest.raises(UserError, match="ILQL has nothing to learn from"):
        AccelerateILQLTrainer(config).learn()
    with pytest.raises(UserError, match=r"rewards\[1\] is nan"):
        run(config, samples=[("q", "a"), ("q", "b")], rewards=[1.0, float("nan")])
    with pytest.raises(UserError, match=r"needs method\.name ILQLConfig"):
        AccelerateILQLTrainer(default_ppo_config())
