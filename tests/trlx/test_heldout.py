"""Trainers that watch a held-out score: both bests, the warning, the stop and the way back, killed and resumed."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import PROMPTS, Stop, letters, logged, run, weights
from transformers import AutoModelForCausalLM

from trlx.data.configs import TRLConfig
from trlx.trainer.checkpoint_folder import find_resumable
from trlx.trainer.heldout import HeldoutWatch
from trlx.utils.errors import UserError
from trlx.utils.manifest import write_manifest

EVALUATED = [{"prompt": f"held out {i}", "tag": 100 + i} for i in range(4)]
HUMP = (0.5, 0.9, 0.7, 0.6, 0.5)  # by evaluation: best at the second, parted from the fourth on


class Planted:
    """Reward and held-out score of evaluations by a script; other rewards are those of `letters`.

    Args:
        scores: the held-out mean of each evaluation; the reward rises by 1 from one to the next
            unless `rewards` is set.
        first: the evaluation to begin with, after a resume. kill_at: the one that fails.
    """

    def __init__(self, scores: Sequence[float] = HUMP, first: int = 0, kill_at: int | None = None):
        self.scores, self.evaluation, self.kill_at = scores, first, kill_at
        self.rewards: Sequence[float] = range(len(scores))

    def reward_fn(self, outputs: list[str], tag: list[int], **given: Any) -> list[float]:
        if tag[0] < 100:
            return letters(outputs)
        if self.evaluation == self.kill_at:
            raise Stop
        return [float(self.rewards[self.evaluation])] * len(tag)

    def metric_fn(self, tag: list[int], **_: Any) -> dict[str, list[float]]:
        mean = self.scores[self.evaluation]
        self.evaluation += 1
        return {"gold": [mean + 0.001 * (number - 101.5) for number in tag]}

    def run(self, config: TRLConfig) -> Any:
        return run(config, reward_fn=self.reward_fn, metric_fn=self.metric_fn, eval_prompts=EVALUATED)


def watching(folder: Path, tokenizer_folder: str, **overrides: Any) -> TRLConfig:
    """8 steps, evaluated at 0, 2, 4, 6 and 8."""
    settings = {"train__eval_interval": 2, "train__heldout_metric": "metrics/gold", "train__resume_interval": 1}
    return ppo_config(folder, tokenizer_folder, **{**settings, **overrides})


def state_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "trainer_state.json").read_text())


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "logs" / "monitor.json").read_text())


def test_both_bests_are_kept_apart(tmp_path: Path, tokenizer_folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Planted().run(watching(tmp_path, tokenizer_folder))
    assert trainer.iter_count == 8  # warned only
    assert state_of(tmp_path / "best_checkpoint")["iter_count"] == 8
    assert state_of(tmp_path / "best_heldout_checkpoint")["iter_count"] == 2
    by_reward, by_heldout = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "hf_model").state_dict()
        for name in ("best_checkpoint", "best_heldout_checkpoint")
    )
    assert any(not torch.equal(value, by_heldout[name]) for name, value in by_reward.items())
    record = record_of(tmp_path)
    assert (record["metric"], record["flagged_at"], record["rolled_back"]) == ("metrics/gold", 6, False)
    assert record["best_by_reward"] == {"step": 8, "reward": 4.0, "heldout": pytest.approx(0.5)}
    assert record["best_by_heldout"] == {"step": 2, "reward": 1.0, "heldout": pytest.approx(0.9)}
    assert [entry["step"] for entry in record["history"]] == [0, 2, 4, 6, 8]
    assert logged(trainer, "heldout/mean") == pytest.approx(HUMP)
    assert logged(trainer, "heldout/best") == pytest.approx([0.5, 0.9, 0.9, 0.9, 0.9])
    assert logged(trainer, "heldout/parted") == [0, 0, 0, 1, 1]
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "over-optimisation" in line]  # once
    for words in ("step 6", "fell from 0.900 at step 2 to 0.600", "from 1.000 to 3.000", "best_heldout_checkpoint"):
        assert words in warning, warning


def test_stopping_loads_the_very_weights_back(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = Planted().run(watching(tmp_path, tokenizer_folder, train__on_overoptimization="stop"))
    assert trainer.iter_count == 6 and logged(trainer, "heldout/parted") == [0, 0, 0, 1]
    assert state_of(tmp_path / "checkpoint_6")["iter_count"] == 6  # where it stopped is kept as well
    whole = torch.load(tmp_path / "best_heldout_checkpoint" / "pytorch_model.bin")
    mine = weights(trainer)
    assert mine.keys() == whole.keys() and all(torch.equal(mine[name], value) for name, value in whole.items())
    stopped_at = torch.load(tmp_path / "checkpoint_6" / "pytorch_model.bin")
    assert any(not torch.equal(mine[name], value) for name, value in stopped_at.items())
    assert record_of(tmp_path)["rolled_back"] and record_of(tmp_path)["flagged_at"] == 6
    assert len(logged(trainer, "losses/total_loss")) == 6  # going back takes nothing from the logs
    again = Planted(first=4).run(
        watching(tmp_path, tokenizer_folder, train__on_overoptimization="stop", train__resume_from_checkpoint="auto")
    )
    assert again.iter_count == 6  # a run that was stopped stays so
    assert all(torch.equal(weights(again)[name], value) for name, value in whole.items())


def test_the_policy_of_step_0_may_be_the_best(tmp_path: Path, tokenizer_folder: str) -> None:
    settings = {"train__on_overoptimization": "stop", "train__heldout_patience": 1}
    config = watching(tmp_path, tokenizer_folder, **settings)
    trainer = Planted((0.9, 0.5, 0.4, 0.3)).run(config)
    assert trainer.iter_count == 2 and state_of(tmp_path / "best_heldout_checkpoint")["iter_count"] == 0
    # Adam's moments are as empty as they were, so it could train on from there
    assert not torch.load(tmp_path / "best_heldout_checkpoint" / "optimizer.bin")["state"]
    fresh = Planted((0.9,)).run(watching(tmp_path / "fresh", tokenizer_folder, train__total_steps=0))
    assert all(torch.equal(weights(trainer)[name], value) for name, value in weights(fresh).items())


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
def test_a_run_killed_and_resumed_flags_at_the_same_step(tmp_path: Path, tokenizer_folder: str, kill_at: int) -> None:
    whole = Planted().run(watching(tmp_path / "whole", tokenizer_folder))
    with pytest.raises(Stop):
        Planted(kill_at=kill_at).run(watching(tmp_path / "cut", tokenizer_folder))
    # The evaluation that failed is that of a step whose checkpoint came after it: the one before is the newest.
    resumed = Planted(first=kill_at).run(
        watching(tmp_path / "cut", tokenizer_folder, train__resume_from_checkpoint="auto")
    )
    assert record_of(tmp_path / "cut") == record_of(tmp_path / "whole")
    assert logged(resumed, "heldout/parted") == logged(whole, "heldout/parted") == [0, 0, 0, 1, 1]
    assert all(torch.equal(weights(resumed)[name], value) for name, value in weights(whole).items())


def test_nothing_is_watched_by_default(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = Planted().run(watching(tmp_path, tokenizer_folder, train__heldout_metric=None))
    assert trainer.iter_count == 8 and not (tmp_path / "best_heldout_checkpoint").exists()
    assert not (tmp_path / "logs" / "monitor.json").exists() and logged(trainer, "heldout/mean") == []


def test_another_metric_begins_anew(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(Stop):
        Planted(kill_at=2).run(watching(tmp_path, tokenizer_folder, train__heldout_metric=None))
    Planted(first=2).run(watching(tmp_path, tokenizer_folder, train__resume_from_checkpoint="auto"))
    assert [entry["step"] for entry in record_of(tmp_path)["history"]] == [4, 6, 8]


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("metrics/god", "needs 'metrics/god' as a list with one number a prompt; did you mean 'metrics/gold'"),
        ("metrics/output", "needs 'metrics/output' as a list"),
    ],
)
def test_a_metric_that_is_not_there(tmp_path: Path, tokenizer_folder: str, metric: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Planted().run(watching(tmp_path, tokenizer_folder, train__heldout_metric=metric))


def test_scores_that_are_no_numbers(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(UserError, match="metrics/gold: 4 of 4 held-out scores are not finite: mend metric_fn"):
        Planted((float("nan"),)).run(watching(tmp_path, tokenizer_folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train__heldout_metric": None}, "needs a train.heldout_metric to watch"),
        ({"train__save_optimizer": False}, "set train.save_optimizer to true"),
    ],
)
def test_a_stop_without_a_way_back(tmp_path: Path, tokenizer_folder: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(watching(tmp_path, tokenizer_folder, train__on_overoptimization="stop", **changes), prompts=PROMPTS)


def test_of_one_step_the_checkpoint_written_last_is_resumed(tmp_path: Path) -> None:
    names = ["best_heldout_checkpoint", ".best_checkpoint.old", "checkpoint_06", "resume_checkpoint"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text('{"iter_count": 6}')
        write_manifest(tmp_path / name)
        assert find_resumable(tmp_path) == tmp_path / name
    (tmp_path / "checkpoint_06" / "trainer_state.json").write_text('{"iter_count": 7}')
    assert find_resumable(tmp_path) == tmp_path / "resume_checkpoint"  # it is not what its manifest says
    write_manifest(tmp_path / "checkpoint_06")
    assert find_resumable(tmp_path) == tmp_path / "checkpoint_06"


def test_a_kill_between_the_two_bests_loses_neither(tmp_path: Path, tokenizer_folder: str) -> None:
    """The best by both scores is that of the last step, and only the one by held-out score got to the disk."""
    scores = (0.5, 0.6, 0.7, 0.8, 0.9)
    whole = Planted(scores).run(watching(tmp_path, tokenizer_folder))
    assert state_of(tmp_path / "best_heldout_checkpoint")["iter_count"] == 8
    for name in ("best_checkpoint", "checkpoint_8"):
        shutil.rmtree(tmp_path / name)
    again = Planted(scores, first=5).run(watching(tmp_path, tokenizer_folder, train__resume_from_checkpoint="auto"))
    assert again.iter_count == 8 and again.best_reward == 4.0
    for name in ("best_checkpoint", "checkpoint_8"):
        assert state_of(tmp_path / name)["iter_count"] == 8 and state_of(tmp_path / name)["best_reward"] == 4.0
        kept = torch.load(tmp_path / name / "pytorch_model.bin")
        assert all(torch.equal(value, kept[key]) for key, value in weights(whole).items())


def test_a_resume_from_the_best_by_heldout_score_knows_its_reward(tmp_path: Path, tokenizer_folder: str) -> None:
    """Killed after its save at step 4: what comes later, worse by reward, must not take best_checkpoint."""
    planted = Planted((0.5, 0.6, 0.9, 0.8, 0.8))
    planted.rewards = (0, 1, 5, 2, 3)
    planted.run(watching(tmp_path, tokenizer_folder, train__resume_interval=0))
    assert state_of(tmp_path / "best_heldout_checkpoint")["best_reward"] == 1.0  # as a kill would leave it
    for name in ("best_checkpoint", "checkpoint_8"):
        shutil.rmtree(tmp_path / name)
    resumed = Planted(planted.scores, first=3)
    resumed.rewards = planted.rewards
    resumed.run(watching(tmp_path, tokenizer_folder, train__resume_from_checkpoint="auto"))
    assert state_of(tmp_path / "best_checkpoint")["iter_count"] == 4
    assert state_of(tmp_path / "checkpoint_8")["best_reward"] == 5.0


def test_another_judge_or_other_prompts_begin_anew(
    tmp_path: Path, tokenizer_folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch(prompts: list[list[int]], metric_fn: Any) -> HeldoutWatch:
        config = watching(tmp_path, tokenizer_folder)
        made = HeldoutWatch(config.train, None, None, None)  # type: ignore[arg-type]
        made.judges(prompts, metric_fn)
        return made

    def judge(name: str) -> Any:
        return SimpleNamespace(source_of=lambda metric: f"{metric} of {name}")

    first = watch([[1, 2], [3]], judge("one"))
    first.monitor.observe(0, [1.0, 2.0], [0.5, 0.6])
    state = json.loads(json.dumps(first.state_dict()))
    for prompts, name in (([[1, 2], [3]], "other"), ([[1, 2], [4]], "one"), ([[1], [2, 3]], "one"), ([[1, 2]], "one")):
        other = watch(prompts, judge(name))
        other.load_state_dict(state)
        assert other.monitor.history == []
        assert "other evaluation prompts or another judge before" in capsys.readouterr().err
    same = watch([[1, 2], [3]], judge("one"))
    same.load_state_dict(state)
    assert same.monitor.history == first.monitor.history


def test_a_resume_with_more_prompts_goes_on(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.raises(Stop):
        Planted(kill_at=2).run(watching(tmp_path, tokenizer_folder))
    planted = Planted(first=2)
    more = [*EVALUATED, {"prompt": "held out too", "tag": 104}]
    config = watching(tmp_path, tokenizer_folder, train__resume_from_checkpoint="auto")
    run(config, reward_fn=planted.reward_fn, metric_fn=planted.metric_fn, eval_prompts=more)
    assert [(entry["step"], entry["heldout"]["n"]) for entry in record_of(tmp_path)["history"]] == [
        (4, 5),
        (6, 5),
        (8, 5),
    ]


@pytest.mark.parametrize("metric", ["metrics/reward", "reward"])
def test_the_reward_is_no_held_out_score(tmp_path: Path, tokenizer_folder: str, metric: str) -> None:
    with pytest.raises(UserError, match=f"{metric} is the reward itself"):
        Planted().run(watching(tmp_path, tokenizer_folder, train__heldout_metric=metric))
