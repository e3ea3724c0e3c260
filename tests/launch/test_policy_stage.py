"""What the stages that train a policy share: verdicts said, held-out scores measured and chosen, outputs claimed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.policy_monitor import MonitoredOptions, PolicyMetrics, choose_monitor, policy_metrics, second_reward_folder
from launch.policy_outputs import claim_outputs
from launch.policy_reward import say_verdicts
from reward_model.verdict import GATE_FILE, Check, gate_content
from tasks.records import Post
from tasks.run_folder import fill_places
from trlx.data.configs import TrainConfig
from trlx.data.default_configs import default_ppo_config
from trlx.utils.errors import UserError

FACTS = [{"name": "place", "text": "Reno"}, {"name": "age", "text": "46"}]
END = "<end>"
TOKENIZER = SimpleNamespace(eos_token=END)


def post(name: str, **extra: Any) -> Post:
    return Post(name, "POST: I am 46.\nTL;DR:", "I am 46 in Reno.", extra=extra)


def judged(folder: Path, status: str, accuracy: float = 0.7) -> Path:
    """A reward model with a verdict beside it."""
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"accuracy": {accuracy}}}')
    check = Check("accuracy", "pairs ranked as the labels say", accuracy, None, None, 9, 0.6, ">=", status)  # type: ignore[arg-type]
    (folder / GATE_FILE).write_text(json.dumps(gate_content(folder, [check])))
    return folder


def test_a_pass_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judged(tmp_path / "rm", "pass")
    say_verdicts("ppo", [str(folder)], accept_failing=False)
    assert capsys.readouterr().out == f"[ppo] {folder}: reward model gate: PASS (1 checks)\n"


def test_a_fail_stops_unless_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = judged(tmp_path / "good", "pass"), judged(tmp_path / "bad", "fail", 0.5)
    with pytest.raises(UserError, match=r"bad failed its gate: .*--accept-failing-reward-model"):
        say_verdicts("ppo", [str(good), str(bad)], accept_failing=False)
    said = capsys.readouterr().out
    assert "PASS" in said and "FAIL" in said and "fails: accuracy 0.500" in said  # each member's
    say_verdicts("ppo", [str(good), str(bad)], accept_failing=True)
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("accepted all the same, as --accept-failing-reward-model says")
    )


def test_a_stale_verdict_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = judged(tmp_path / "rm", "fail")
    (folder / "config.json").write_text("{}")  # trained anew since
    say_verdicts("ppo", [str(folder)], accept_failing=False)
    assert "another model" in capsys.readouterr().out


def test_without_a_verdict_it_is_said_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say_verdicts("rft", [str(tmp_path), "nobody/hub-model"], accept_failing=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("python -m reward_model.gate" in line and line.startswith("[rft]") for line in lines)


class Second:
    """Stands for the second reward model's reward."""

    def __call__(self, prompts: Any, outputs: Any, tokenizer: Any, sample_id: Any, reference: Any) -> list[float]:
        assert tokenizer is TOKENIZER and len(prompts) == len(outputs) == len(reference)
        return [float(len(output)) for output in outputs]


def test_what_an_evaluation_measures(tmp_path: Path) -> None:
    posts = [post("a", facts=FACTS), post("b", facts=FACTS)]
    options = MonitoredOptions(root=str(tmp_path), task="miniature")
    metrics = policy_metrics(options, [], posts, TOKENIZER, 200)
    assert metrics.second is None
    metrics.second = Second()  # type: ignore[assignment]
    given = {"prompts": ["p", "p"], "sample_id": ["b", "a"], "reference": ["I am 46 in Reno."] * 2}
    measured = metrics(outputs=[f" I am 46 in Reno.{END}", " I am 46"], samples=["", ""], **given)
    # All facts; then one of two, no full stop, and not ended: 0.5 − 2 · 0.1
    assert measured["gold"] == pytest.approx([1.0, 0.3])
    assert measured["second_reward"] == [22.0, 8.0]
    # The longest common subsequence has 3 of 5 words: precision 1, recall 0.6, F1 0.75
    assert measured["rougeL"] == pytest.approx([1.0, 0.75])


def test_gold_needs_the_facts_of_every_post(tmp_path: Path) -> None:
    mixed = [post("a", facts=FACTS), post("b")]
    assert policy_metrics(MonitoredOptions(root=str(tmp_path), task="miniature"), [], mixed, TOKENIZER, 9).gold is None
    whole = [post("a", facts=FACTS)]
    assert policy_metrics(MonitoredOptions(root=str(tmp_path), task="tldr"), [], whole, TOKENIZER, 9).gold is None


def metrics_of(gold: bool, second: bool) -> PolicyMetrics:
    return PolicyMetrics(TOKENIZER, object() if gold else None, object() if second else None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("monitor", "gold", "second", "watched"),
    [
        ("auto", True, True, "metrics/gold"),
        ("auto", False, True, "metrics/second_reward"),
        ("auto", False, False, None),
        ("second_reward_model", True, True, "metrics/second_reward"),
        ("gold", True, False, "metrics/gold"),
        ("none", True, True, None),
    ],
)
def test_what_is_watched(monitor: Any, gold: bool, second: bool, watched: str | None) -> None:
    train = train_config()
    said = choose_monitor(MonitoredOptions(monitor=monitor), metrics_of(gold, second), train)
    assert train.heldout_metric == watched and train.on_overoptimization == "warn"
    assert (watched or "no held-out score is watched") in said


def train_config() -> TrainConfig:
    return default_ppo_config().train


def test_a_metric_named_by_hand_stays() -> None:
    train = train_config()
    train.heldout_metric = "metrics/rougeL"
    said = choose_monitor(MonitoredOptions(on_overoptimization="stop"), metrics_of(True, True), train)
    assert train.heldout_metric == "metrics/rougeL" and train.on_overoptimization == "stop"
    assert "metrics/rougeL" in said and "stops and goes back" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"monitor": "gold"}, "task tldr has no gold score"),
        ({"on_overoptimization": "stop"}, "stop needs a score to watch"),
        ({"monitor": "none", "on_overoptimization": "stop"}, "stop needs a score to watch"),
    ],
)
def test_what_cannot_be_watched(options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose_monitor(MonitoredOptions(**options), metrics_of(False, False), train_config())


def test_the_runs_own_second_reward_model_counts_once_it_is_finished(tmp_path: Path) -> None:
    own = tmp_path / "ckpts" / "second_reward_model"
    own.mkdir(parents=True)
    assert second_reward_folder(MonitoredOptions(root=str(tmp_path)), []) is None
    (own / "config.json").write_text("{}")
    assert second_reward_folder(MonitoredOptions(root=str(tmp_path), monitor="none"), []) is None
    with pytest.raises(UserError, match="second_reward_model"):  # found, and no reward model
        second_reward_folder(MonitoredOptions(root=str(tmp_path)), [])


def finished_run(folder: Path) -> list[Path]:
    """What PPO with a monitor leaves in its two folders."""
    for name in ("best_checkpoint", "best_heldout_checkpoint", "checkpoint_4"):
        (folder / name / "hf_model").mkdir(parents=True)
    (folder / "ppo" / "eval").mkdir(parents=True)
    for name in ("metrics.jsonl", "monitor.json"):
        (folder / "ppo" / name).write_text("{}")
    return [folder / "best_heldout_checkpoint", folder / "ppo" / "monitor.json"]


def test_overwriting_takes_the_monitors_files_too(root: Path) -> None:
    folder = root / "ckpts"
    theirs = finished_run(folder)
    (folder / "sft").mkdir()
    options = fill_places(MonitoredOptions(root=str(root)), root)
    config = default_ppo_config().evolve(
        model={"model_path": str(root / "base")},
        train={"checkpoint_dir": options.train.checkpoint_dir, "logging_dir": options.train.logging_dir},
    )
    with pytest.raises(UserError, match="already holds a run"):
        claim_outputs("ppo", config, overwrite=False, resume=False)
    assert all(path.exists() for path in theirs)
    assert claim_outputs("ppo", config, overwrite=True, resume=False) is None
    assert {path.name for path in folder.iterdir()} == {"sft", "ppo"} and not list((folder / "ppo").iterdir())


@pytest.mark.parametrize("held", ["best_heldout_checkpoint", "ppo/monitor.json"])
def test_each_of_them_alone_is_a_run(root: Path, held: str) -> None:
    path = root / "ckpts" / held
    path.mkdir(parents=True)
    config = default_ppo_config().evolve(
        train={"checkpoint_dir": str(root / "ckpts"), "logging_dir": str(root / "ckpts" / "ppo")}
    )
    with pytest.raises(UserError, match="already holds a run"):
        claim_outputs("ppo", config, overwrite=False, resume=False)
