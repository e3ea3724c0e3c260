"""Whole runs of `trlx.train` in one process, of a model small enough for seconds."""

import copy
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import END, EOS, VOCAB, make_rollouts, neo_config, ppo_config
from tiny_runs import PROMPTS, Stop, letters, make_trainer, moved, run, run_until, weights
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, T5Config

from trlx.data.configs import TRLConfig
from trlx.data.ppo_types import collate
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

# Every name that trlX's PPO logs, and ours.
STEP_METRICS = [
    *(f"losses/{name}" for name in ("total_loss", "policy_loss", "value_loss")),
    *(f"values/{name}" for name in ("mean", "min", "max", "std", "values_error", "values_mape_error", "clipfrac")),
    *(f"{group}/{name}" for group in ("old_values", "returns") for name in ("mean", "min", "max", "std")),
    *("policy/approx_kl", "policy/clipfrac", "ratio", "padding_percentage"),
    *("time/forward", "time/backward", "learning_rate_group_0", "gradient_norm"),
]
PHASE_METRICS = [
    *(f"rollout_scores/{name}" for name in ("mean", "std", "running_mean", "running_std")),
    *(f"time/{name}" for name in ("rollout_generate", "rollout_score", "rollout_time")),
    *("policy/sqrt_kl", "policy/kl_per_token", "policy/kl", "policy/kl_k3", "kl_ctl_value"),
    *("policy/entropy", "values/explained_variance", "rollout/eos_rate", "rollout/response_length"),
]
EVAL_METRICS = ["reward/mean", "metrics/length", "time/generate", "time/metric"]


def lengths(samples: list[str], prompts: list[str], outputs: list[str], tag: list[int]) -> dict[str, list[float]]:
    return {"length": [float(len(output)) for output in outputs]}


@pytest.fixture
def short_run(tmp_path: Path, tokenizer_folder: str) -> AcceleratePPOTrainer:
    config = ppo_config(tmp_path / "run", tokenizer_folder, train__eval_interval=4, model__num_layers_unfrozen=2)
    return run(config, metric_fn=lengths)


def test_the_reward_rises(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(
        tmp_path,
        tokenizer_folder,
        train__epochs=7,
        train__batch_size=64,
        method__num_rollouts=64,
        method__chunk_size=64,
        method__ppo_epochs=6,
        method__cliprange=0.5,
        method__init_kl_coef=0.0,
        method__gen_kwargs={"max_new_tokens": 5, "do_sample": True, "temperature": 1.0},
        optimizer__kwargs__lr=1e-2,
        model__num_layers_unfrozen=-1,
        model__model_path=neo_config(layers=2),
    )
    run(config, eval_prompts=PROMPTS[:2])
    scores = [line["rollout_scores/mean"] for line in read_metrics(tmp_path / "logs") if "rollout_scores/mean" in line]
    assert len(scores) == 7
    assert scores[0] < 2.0  # a random model: about 26 of 256 bytes, so 1 of 10
    assert scores[-1] > 5.0, scores  # 9 when this was written


def test_every_metric_is_logged(short_run: AcceleratePPOTrainer) -> None:
    lines = read_metrics(short_run.logging_dir)
    at_step: dict[int, dict[str, float]] = {}
    for line in lines:
        at_step[line["step"]] = at_step.get(line["step"], {}) | line
    for names, marker in ((STEP_METRICS, "ratio"), (PHASE_METRICS, "kl_ctl_value"), (EVAL_METRICS, "reward/mean")):
        found = [metrics for metrics in at_step.values() if marker in metrics]
        assert found, marker
        for metrics in found:
            assert not [name for name in names if metrics.get(name) is None], metrics
    assert [line["step"] for line in lines if "ratio" in line] == list(range(1, 9))  # 2 phases × 2 passes × 2 steps
    assert [line["step"] for line in lines if "kl_ctl_value" in line] == [0, 4]
    assert [line["step"] for line in lines if "reward/mean" in line] == [0, 4, 8]


def test_at_the_start_ratio_is_1_and_kl_0(short_run: AcceleratePPOTrainer) -> None:
    lines = read_metrics(short_run.logging_dir)
    first_phase = next(line for line in lines if "policy/kl" in line)
    assert abs(first_phase["policy/kl"]) <= 1e-5 and abs(first_phase["policy/kl_k3"]) <= 1e-5
    assert first_phase["rollout/sampling_logprob_gap"] <= 1e-4
    first_step = next(line for line in lines if "ratio" in line)
    assert abs(first_step["ratio"] - 1) <= 1e-5 and first_step["policy/log_ratio_gap"] <= 1e-5
    assert first_step["policy/clipfrac"] == 0.0
    # the policy has moved by the second phase, or the zeros above say nothing
    second_phase = [line for line in lines if "policy/kl" in line][1]
    assert second_phase["policy/kl_k3"] > 1e-5


@pytest.mark.parametrize("unfrozen", [-1, 2])
def test_hf_model_reloads_with_equal_logits(tmp_path: Path, tokenizer_folder: str, unfrozen: int) -> None:
    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__epochs=1, model__num_layers_unfrozen=unfrozen))
    folder = tmp_path / "checkpoint_04" / "hf_model"
    if not folder.exists():
        (folder,) = tmp_path.glob("checkpoint_*/hf_model")
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ids = torch.randint(1, 257, (2, 20))
    assert all(torch.equal(value, trainer.policy.state_dict()[name]) for name, value in model.state_dict().items())
    with torch.no_grad():  # the trainer computes GELU in one pass, which rounds otherwise
        torch.testing.assert_close(model.eval()(ids).logits, trainer.policy.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("ab")["input_ids"] == trainer.tokenizer("ab")["input_ids"]
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(tokenizer_folder).get_vocab()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "best_checkpoint" / "hf_model").dtype == torch.float32


@pytest.mark.parametrize("unfrozen", [-1, 1])
def test_an_encoder_decoder(tmp_path: Path, tokenizer_folder: str, unfrozen: int) -> None:
    t5 = T5Config(
        vocab_size=VOCAB,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=4,
        decoder_start_token_id=1,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    config = ppo_config(
        tmp_path,
        tokenizer_folder,
        train__epochs=2,
        model__model_path=t5,
        model__model_arch_type="seq2seq",
        model__num_layers_unfrozen=unfrozen,
    )
    seen: list[str] = []

    def reward_fn(samples: list[str], prompts: list[str], outputs: list[str], **given: Any) -> list[float]:
        assert samples == [f"{p}<sep>{o}" for p, o in zip(prompts, outputs, strict=True)]
        seen.extend(prompts)
        return letters(outputs=outputs)

    trainer = run(config, reward_fn=reward_fn)
    assert {prompt["prompt"] for prompt in PROMPTS[:4]} <= set(seen) <= {prompt["prompt"] for prompt in PROMPTS}
    lines = read_metrics(trainer.logging_dir)
    assert abs(next(line for line in lines if "policy/kl" in line)["policy/kl"]) <= 1e-5
    assert next(line for line in lines if "ratio" in line)["policy/log_ratio_gap"] <= 1e-5
    (folder,) = tmp_path.glob("checkpoint_*/hf_model")
    model, info = AutoModelForSeq2SeqLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids = torch.randint(1, VOCAB, (2, 9))
    with torch.no_grad():
        given = {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
        assert torch.equal(model.eval()(**given).logits, trainer.policy.eval()(**given).logits)


@pytest.mark.parametrize("unfrozen", [0, 4])
def test_nothing_and_everything_above_the_embeddings_trained(
    tmp_path: Path, tokenizer_folder: str, unfrozen: int
) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, model__num_layers_unfrozen=unfrozen)
    before = weights(make_trainer(config))
    trainer = run(config)
    kls = [line["policy/kl_k3"] for line in read_metrics(trainer.logging_dir) if "policy/kl_k3" in line]
    assert abs(kls[0]) <= 1e-6 and (kls[1] > 1e-5) == (unfrozen == 4)
    changed = moved(before, trainer)
    assert not [name for name in changed if "wte" in name or "wpe" in name or "frozen_head" in name]
    assert bool([name for name in changed if not name.startswith("v_head")]) == (unfrozen == 4)
    assert [name for name in changed if name.startswith("v_head")]


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, tokenizer_folder: str) -> None:
    def config(name: str, **overrides: Any) -> TRLConfig:
        changes = {
            "train__epochs": 3,
            "train__resume_interval": 3,
            "method__ppo_epochs": 3,
            "method__target": 1.0,
            "method__scale_reward": "running",
            "model__num_layers_unfrozen": 2,
            "scheduler__name": "linear",
        }
        return ppo_config(tmp_path / name, tokenizer_folder, **{**changes, **overrides})

    whole = run(config("whole"))
    run_until(6, config("cut"))  # in the third phase: one evaluation, two chunks a phase
    # 6 steps a phase: the run stopped at 12, the last checkpoint at 9 or 12 is in the middle of a phase or at its end
    state = json.loads((tmp_path / "cut" / "resume_checkpoint" / "trainer_state.json").read_text())
    assert state["iter_count"] == 12 and state["epoch"] == 1
    resumed = run(config("cut", train__resume_from_checkpoint="auto"))
    assert resumed.iter_count == whole.iter_count == 18
    assert (resumed.kl_ctl.value, resumed.mean_kl) == (whole.kl_ctl.value, whole.mean_kl)
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
    one, two = (
        [
            {k: v for k, v in line.items() if not k.startswith("time")}
            for line in read_metrics(trainer.logging_dir)
            if line["step"] > 12 or (line["step"] == 12 and "kl_ctl_value" in line)
        ]
        for trainer in (whole, resumed)
    )
    assert one == two and len(one) >= 7


class Tired:
    """Likes letters, each time it is called a little less."""

    def __init__(self, stop_at: int = -1):
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, outputs: list[str], **_: Any) -> list[float]:
        self.calls += 1
        if self.calls == self.stop_at:
            raise Stop
        return [score - self.calls for score in letters(outputs)]

    def resume_state(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_resume_state(self, state: Mapping[str, Any]) -> None:
        self.calls = state["calls"]


def test_what_a_reward_function_remembers_is_resumed_with_the_run(tmp_path: Path, tokenizer_folder: str) -> None:
    def config(name: str, **overrides: Any) -> TRLConfig:
        return ppo_config(tmp_path / name, tokenizer_folder, train__epochs=3, train__resume_interval=2, **overrides)

    whole = run(config("whole"), reward_fn=Tired())
    with pytest.raises(Stop):
        run(config("cut"), reward_fn=Tired(stop_at=6))
    resumed = run(config("cut", train__resume_from_checkpoint="auto"), reward_fn=Tired())
    assert resumed.reward_fn.calls == whole.reward_fn.calls
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


@pytest.mark.parametrize("unfrozen", [-1, 2])
def test_resuming_from_the_middle_of_a_pass(tmp_path: Path, tokenizer_folder: str, unfrozen: int) -> None:
    def config(name: str, **overrides: Any) -> TRLConfig:
        changes = {"train__resume_interval": 3, "method__ppo_epochs": 3, "model__num_layers_unfrozen": unfrozen}
        return ppo_config(tmp_path / name, tokenizer_folder, **{**changes, **overrides})

    whole = run(config("whole"))
    run_until(4, config("cut", method__ppo_epochs=2))  # after step 4; the checkpoint of step 3 is the newest
    state = json.loads((tmp_path / "cut" / "resume_checkpoint" / "trainer_state.json").read_text())
    assert (state["iter_count"], state["inner_epoch"], state["batch_index"]) == (3, 1, 1)
    assert (tmp_path / "cut" / "resume_checkpoint" / "rollouts_0.pt").exists()
    # the passes already made are the same for 2 and for 3 passes a phase
    resumed = run(config("cut", train__resume_from_checkpoint=str(tmp_path / "cut" / "resume_checkpoint")))
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_resuming_from_nothing_is_an_error(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(UserError, match="there is no checkpoint to resume from"):
        run(ppo_config(tmp_path, tokenizer_folder, train__resume_from_checkpoint="auto"))
    with pytest.raises(UserError, match="there is no checkpoint to resume from at"):
        run(ppo_config(tmp_path, tokenizer_folder, train__resume_from_checkpoint=str(tmp_path / "gone")))


def after_one_step(folder: Path, tokenizer_folder: str, minibatch_size: int, **overrides: Any) -> dict[str, Any]:
    """Parameters after one step of SGD on invented rollouts of 8 rows, cut into microbatches."""
    settings = {"optimizer__name": "sgd", "train__minibatch_size": minibatch_size, **overrides}
    config = ppo_config(folder, tokenizer_folder, **settings)
    config.optimizer.kwargs = {"lr": 1.0}
    trainer = make_trainer(config)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    rows = make_rollouts(8)
    parts = [collate(rows[start : start + minibatch_size], 0) for start in range(0, 8, minibatch_size)]
    stats = trainer.train_step(parts)
    return {"weights": weights(trainer), "stats": stats}


@pytest.mark.parametrize("unfrozen", [-1, 2])
def test_minibatch_size_changes_no_gradient(tmp_path: Path, tokenizer_folder: str, unfrozen: int) -> None:
    whole, *cut = (
        after_one_step(tmp_path, tokenizer_folder, size, model__num_layers_unfrozen=unfrozen) for size in (8, 4, 2, 1)
    )
    before = start(tmp_path, tokenizer_folder, unfrozen)
    assert max((whole["weights"][name] - value).abs().max().item() for name, value in before.items()) > 1e-2
    for other in cut:
        for name, value in whole["weights"].items():
            torch.testing.assert_close(other["weights"][name], value, atol=1e-6, rtol=1e-5, msg=name)
        for name in ("losses/total_loss", "gradient_norm", "values/mean", "values/std", "ratio", "policy/approx_kl"):
            assert other["stats"][name] == pytest.approx(whole["stats"][name], rel=1e-4, abs=1e-6), name


def start(folder: Path, tokenizer_folder: str, unfrozen: int = 2) -> dict[str, torch.Tensor]:
    config = ppo_config(folder, tokenizer_folder, model__num_layers_unfrozen=unfrozen)
    return weights(make_trainer(config))


def test_gradients_are_clipped_to_the_norm_asked_for(tmp_path: Path, tokenizer_folder: str) -> None:
    before = start(tmp_path, tokenizer_folder)
    result = after_one_step(tmp_path, tokenizer_folder, 4, method__max_grad_norm=0.01)
    assert result["stats"]["gradient_norm"] > 0.01  # as it was before clipping
    trained = [n for n in before if not n.startswith("frozen_head") and n != "base_model.lm_head.weight"]  # tied
    distance = math.sqrt(sum((result["weights"][n] - before[n]).square().sum().item() for n in trained))
    assert distance == pytest.approx(0.01, rel=1e-3)  # lr 1


def test_the_callers_config_and_prompts_stay_as_they_are(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__epochs=1)
    prompts = copy.deepcopy(PROMPTS)
    before = copy.deepcopy(config.to_dict())
    run(config, prompts=prompts, eval_prompts=None)
    assert config.to_dict() == before and prompts == PROMPTS


def test_rollouts_are_exported_as_they_were_sampled(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__epochs=1, train__rollout_logging_dir=str(tmp_path / "out"))
    seen: list[tuple[str, str]] = []

    def reward_fn(prompts: list[str], outputs: list[str], **given: Any) -> list[float]:
        seen.extend(zip(prompts, outputs, strict=True))
        return letters(prompts=prompts, outputs=outputs, **given)

    run(config, reward_fn=reward_fn, eval_prompts=PROMPTS[:2])
    (folder,) = (tmp_path / "out").glob("run-*")
    assert json.loads((folder / "config.json").read_text())["method"]["ppo_epochs"] == 2
    lines = [json.loads(line) for line in (folder / "epoch-00000-rank-0.jsonl").read_text().splitlines()]
    assert [(line["prompt"], line["output"]) for line in lines] == seen[2:18]
    for line in lines:  # one token a byte, so the ids tell the texts
        assert len(line["query_tensor"]) == len(line["prompt"])
        assert line["output"].endswith(END) == (line["response_tensor"][-1] == EOS)


def test_old_checkpoints_give_way(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__checkpoint_interval=2, train__keep_checkpoints=1)
    run(config)
    assert len(list(tmp_path.glob("checkpoint_*"))) == 1
    shutil.copytree(tmp_path / "checkpoint_8", tmp_path / "checkpoint_6")  # a kill came after the last save
    run(config.evolve(train={"resume_from_checkpoint": "auto"}))
    assert [path.name for path in tmp_path.glob("checkpoint_*")] == ["checkpoint_8"]


def test_the_logged_learning_rate_is_the_one_the_step_used(tmp_path: Path, tokenizer_folder: str) -> None:
    schedule = {"start_factor": 1.0, "end_factor": 0.5, "total_iters": 4}
    config = ppo_config(
        tmp_path, tokenizer_folder, train__epochs=1, scheduler__name="linear", scheduler__kwargs=schedule
    )
    run(config)
    rates = [line["learning_rate_group_0"] for line in read_metrics(tmp_path / "logs") if "ratio" in line]
    # 1e-3 falls by an eighth of itself a step.
    assert rates[:2] == pytest.approx([1e-3, 8.75e-4])
