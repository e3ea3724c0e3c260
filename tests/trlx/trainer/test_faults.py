"""What goes wrong while a policy trains, in one process: signals, numbers that are none, judges that hang, clocks.

(Two ranks: `test_faults_two_ranks`.)
"""

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import EOS, make_rollouts, ppo_config
from tiny_runs import letters, logged, make_trainer, moved, run, weights

from trlx.data.ppo_types import collate
from trlx.data.rft_config import RFTConfig
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.trainer.accelerate_rft_trainer import AccelerateRFTTrainer
from trlx.trainer.checkpoint_folder import read_state
from trlx.trainer.responder import Responder
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

ADAPTIVE = {"method__target": 6.0, "method__init_kl_coef": 0.05}


def told_to_stop(call: int) -> Any:
    """The reward function, in whose so-manieth call the process gets SIGTERM: 1 is the evaluation's, then chunks."""
    calls: list[int] = []

    def reward_fn(**given: Any) -> list[float]:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return letters(**given)

    return reward_fn


def kept(trainer: Any) -> dict[str, Any]:
    """All that a run leaves but times."""
    lines = read_metrics(trainer.logging_dir)
    untimed = [{name: value for name, value in line.items() if "time" not in name} for line in lines]
    moments = [state["exp_avg"].clone() for state in trainer.opt.state.values()]
    state = trainer.state_dict()
    return {"weights": weights(trainer), "moments": moments, "lines": untimed, "state": state}


# The run's calls of the reward function: evaluation (1), two chunks (2, 3), steps 1 to 4 with an evaluation after the
# third (4), two chunks (5, 6), steps 5 to 8 with evaluations after the sixth and the eighth.
@pytest.mark.parametrize(("call", "step"), [(1, 0), (2, 0), (3, 1), (4, 4), (5, 4), (6, 5)])
def test_sigterm_saves_exits_with_0_and_the_resumed_run_is_the_same(
    tmp_path: Path, tokenizer_folder: str, call: int, step: int, whole_run: dict[str, Any]
) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__eval_interval=3, **ADAPTIVE)
    with pytest.raises(SystemExit) as end:
        run(config, reward_fn=told_to_stop(call))
    assert end.value.code == 0
    assert [path.name for path in tmp_path.glob("*checkpoint*") if "best" not in path.name] == ["resume_checkpoint"]
    assert read_state(tmp_path / "resume_checkpoint")["iter_count"] == step
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    trainer = run(config.evolve(train={"resume_from_checkpoint": "auto"}))
    assert_same(kept(trainer), whole_run)


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got["lines"] == expected["lines"]
    assert got["state"] | {"rollout_log": 0} == expected["state"] | {"rollout_log": 0}
    assert all(torch.equal(value, expected["weights"][name]) for name, value in got["weights"].items())
    assert all(torch.equal(*pair) for pair in zip(got["moments"], expected["moments"], strict=True))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> dict[str, Any]:
    """What a run leaves that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return kept(run(ppo_config(folder, tokenizer_folder, train__eval_interval=3, **ADAPTIVE)))


class StepsAreSlow(AcceleratePPOTrainer):
    """Gets SIGUSR1 within the third step, after which an evaluation is due."""

    def after_optimizer_step(self) -> None:
        if self.iter_count == 3:
            os.kill(os.getpid(), signal.SIGUSR1)


def test_an_evaluation_that_is_due_is_left_to_the_resumed_run(
    tmp_path: Path, tokenizer_folder: str, whole_run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__eval_interval=3, **ADAPTIVE)
    with monkeypatch.context() as patch:
        patch.setattr(AcceleratePPOTrainer, "after_optimizer_step", StepsAreSlow.after_optimizer_step)
        with pytest.raises(SystemExit):
            run(config)
    assert [line["step"] for line in read_metrics(tmp_path / "logs") if "reward/mean" in line] == [0]
    assert_same(kept(run(config.evolve(train={"resume_from_checkpoint": "auto"}))), whole_run)


def test_without_the_optimizer_there_is_nothing_to_go_on_from(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__save_optimizer=False)
    with pytest.raises(SystemExit) as end:
        run(config, reward_fn=told_to_stop(2))
    assert end.value.code == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("*checkpoint*"))


def rft_config(folder: Path, tokenizer_folder: str) -> Any:
    config = ppo_config(folder, tokenizer_folder, train__trainer="AccelerateRFTTrainer")
    config.method = RFTConfig(
        name="RFTConfig",
        n_generations_per_prompt=2,
        n_improve_steps=1,
        gen_kwargs={"max_new_tokens": 4, "do_sample": True},
    )
    return config


def test_sigterm_in_a_round_of_rft_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kept(run(rft_config(tmp_path / "whole", tokenizer_folder)))
    rollout, calls = Responder.rollout, []

    def told(self: Responder, *given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:  # five batches a round; the second round begins with the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return rollout(self, *given, **options)

    config = rft_config(tmp_path / "cut", tokenizer_folder)
    with monkeypatch.context() as patch:
        patch.setattr(Responder, "rollout", told)
        with pytest.raises(SystemExit):
            run(config)
    assert len(calls) == 7
    config.train.resume_from_checkpoint = "auto"
    assert_same(kept(run(config)), whole)


# -- numbers that are not finite ------------------------------------------------------------------------------------


def judge_with(bad: float, calls: set[int]) -> Any:
    """The reward function, whose second score is that number in some of its calls, counted from 1."""
    count: list[int] = []

    def reward_fn(**given: Any) -> list[float]:
        count.append(1)
        scores = letters(**given)
        return [scores[0], bad, *scores[2:]] if len(count) in calls else scores

    return reward_fn


def test_rollouts_with_a_score_that_is_not_finite_are_left_out(tmp_path: Path, tokenizer_folder: str) -> None:
    # in float32, that is
    config = ppo_config(tmp_path, tokenizer_folder, **ADAPTIVE)
    trainer = run(config, reward_fn=judge_with(1e39, {3, 6}))
    assert logged(trainer, "rollout/skipped_chunks") == [1, 2]
    assert trainer.iter_count == 8  # as many rollouts as ever are learned from
    assert trainer.running_moments.count == 32 and math.isfinite(trainer.running_moments.std)
    assert math.isfinite(trainer.kl_ctl.value)
    assert all(bool(value.isfinite().all()) for value in weights(trainer).values())
    assert trainer.state_dict()["skipped_rollouts"] == {"total": 2, "in_a_row": 0}


def test_too_many_such_rollouts_in_a_row_end_the_run(tmp_path: Path, tokenizer_folder: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, train__max_skipped_steps=3)
    message = r"nan, which is not finite, for sample 1: .* 3 batches of rollouts in a row, the last after step 0: mend"
    with pytest.raises(UserError, match=message):
        run(config, reward_fn=judge_with(math.nan, {2, 4, 5, 6}))


def test_rollouts_with_a_value_that_is_not_finite_are_left_out(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder))
    collect, calls = trainer.collector.collect, []

    def collect_badly() -> Any:
        chunk = collect()
        calls.append(1)
        if len(calls) == 1:
            chunk.values[0, 0] = math.nan
        return chunk

    trainer.collector.collect = collect_badly
    trainer.make_experience(16)
    assert len(calls) == 3 and len(trainer.store) == 16
    assert all(bool(element.values.isfinite().all()) for element in trainer.store)


class Infinite(AcceleratePPOTrainer):
    """Its loss is infinite, its gradient as it was."""

    def loss(self, batch: Any) -> Any:
        loss, stats = super().loss(batch)
        return loss + math.inf, stats


def test_a_loss_that_is_not_finite_is_not_stepped_on_though_its_gradient_is(
    tmp_path: Path, tokenizer_folder: str
) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), Infinite)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    before = weights(trainer)
    assert trainer.train_step([collate(make_rollouts(8), EOS)])["skipped_steps"] == 1.0
    assert moved(before, trainer) == set()
    assert trainer.state_dict()["skipped"] == 1


def test_a_kl_that_is_not_finite_leaves_the_coefficient_alone(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, **ADAPTIVE))
    trainer.store.push(make_rollouts(4))
    trainer.mean_kl = math.nan
    trainer.post_epoch_callback()
    assert trainer.kl_ctl.value == 0.05


def test_rft_learns_from_no_sample_without_a_finite_score(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(
        rft_config(tmp_path, tokenizer_folder), AccelerateRFTTrainer, reward_fn=judge_with(math.nan, {1})
    )
    trainer.grow(trainer.prompt_pipeline)
    samples = [sample for own in trainer.generations.values() for sample in own]
    assert len(samples) == 39 and all(math.isfinite(sample.score) for sample in samples)
    assert logged(trainer, "rollout_scores/not_finite") == [1] and math.isfinite(
        logged(trainer, "rollout_scores/mean")[0]
    )
    trainer.reward_fn = lambda outputs, **_: [math.nan] * len(outputs)
    with pytest.raises(UserError, match="no finite score for any of 40 responses"):
        trainer.grow(trainer.prompt_pipeline)


# -- judges and clocks ----------------------------------------------------------------------------------------------


def test_a_judge_that_hangs_ends_the_run(tmp_path: Path, tokenizer_folder: str) -> None:
    def hung(**_: Any) -> list[float]:
        while True:
            try:
                time.sleep(60)
            except Exception:  # as code that tries again does
                continue

    config = ppo_config(tmp_path, tokenizer_folder, train__reward_timeout=0.2)
    with pytest.raises(UserError, match=r"hung did not return within 0.2 s \(train.reward_timeout\)"):
        run(config, reward_fn=hung)


def test_clocks_that_jump_change_no_duration(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + chance.uniform(-1e6, 1e6))
    trainer = run(ppo_config(tmp_path, tokenizer_folder, train__epochs=1))
    lines = read_metrics(trainer.logging_dir)
    durations = [value for line in lines for name, value in line.items() if name.startswith("time/")]
    assert len(durations) > 10 and all(0 <= value < 1000 for value in durations)
    assert trainer.iter_count == 4
