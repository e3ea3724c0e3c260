"""What the stages that train a policy share: verdicts said, held-out scores measured and chosen, outputs claimed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_stage import tiny_tokenizer

from launch.policy_monitor import MonitoredOptions, PolicyMetrics, choose_monitor, policy_metrics, second_reward_folder
from launch.policy_outputs import claim_outputs, finish
from launch.policy_reward import require_reward_models, say_verdicts
from launch.policy_stage import PolicyOptions, load_prompts
from reward_model.model import new_reward_model, new_reward_tokenizer
from reward_model.provenance import write_training_posts
from reward_model.verdict import GATE_FILE, Check, gate_content
from tasks.chosen import Part
from tasks.records import Post
from tasks.run_folder import fill_places
from trlx.data.configs import TrainConfig
from trlx.data.default_configs import default_ppo_config
from trlx.data.limits import require_limits
from trlx.utils.errors import UserError
from trlx.utils.manifest import write_manifest

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
    for line, folder in zip(lines, (str(tmp_path), "nobody/hub-model"), strict=True):
        assert line.startswith("[rft]") and f"python -m reward_model.gate --reward_model {folder}`" in line


class Second:
    """Stands for the second reward model's reward."""

    def __call__(self, prompts: Any, outputs: Any, tokenizer: Any, sample_id: Any, reference: Any) -> list[float]:
        assert tokenizer is TOKENIZER and len(prompts) == len(outputs) == len(reference)
        return [float(len(output)) for output in outputs]


def test_what_an_evaluation_measures(tmp_path: Path) -> None:
    posts = [post("a", facts=FACTS), post("b", facts=FACTS)]
    options = MonitoredOptions(root=str(tmp_path), task="miniature")
    metrics = policy_metrics("ppo", options, [], posts, TOKENIZER, 200)
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
    assert (
        policy_metrics("ppo", MonitoredOptions(root=str(tmp_path), task="miniature"), [], mixed, TOKENIZER, 9).gold
        is None
    )
    whole = [post("a", facts=FACTS)]
    assert (
        policy_metrics("ppo", MonitoredOptions(root=str(tmp_path), task="tldr"), [], whole, TOKENIZER, 9).gold is None
    )


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
        ({"train": replace(default_ppo_config().train, on_overoptimization="stop")}, "stop needs a score to watch"),
    ],
)
def test_what_cannot_be_watched(options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose_monitor(MonitoredOptions(**options), metrics_of(False, False), train_config())


def test_the_runs_own_second_reward_model_counts_once_it_is_finished(tmp_path: Path) -> None:
    own = tmp_path / "ckpts" / "second_reward_model"
    own.mkdir(parents=True)
    assert second_reward_folder(MonitoredOptions(root=str(tmp_path)), []) == (None, [])
    (own / "config.json").write_text("{}")
    assert second_reward_folder(MonitoredOptions(root=str(tmp_path), monitor="none"), []) == (None, [])
    with pytest.raises(UserError, match="second_reward_model"):  # found, and no reward model
        second_reward_folder(MonitoredOptions(root=str(tmp_path)), [])


def finished_run(folder: Path) -> list[Path]:
    """What PPO with a monitor leaves in its two folders."""
    for name in ("hf_model", "hf_model_ema", ".hf_model_ema.old"):  # where it was stopped and went back
        (folder / name).mkdir(parents=True)
    for name in ("best_checkpoint", "best_heldout_checkpoint", "checkpoint_4"):
        (folder / name / "hf_model").mkdir(parents=True)
    (folder / "ppo" / "eval").mkdir(parents=True)
    for name in ("metrics.jsonl", "monitor.json"):
        (folder / "ppo" / name).write_text("{}")
    return [
        folder / "hf_model",
        folder / "hf_model_ema",
        folder / "best_heldout_checkpoint",
        folder / "ppo" / "monitor.json",
    ]


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


def test_a_first_checkpoint_that_a_kill_left_half_written_is_no_run_to_lose(root: Path) -> None:
    half = root / "ckpts" / ".resume_checkpoint.writing"
    (half / "hf_model").mkdir(parents=True)
    config = default_ppo_config().evolve(
        model={"model_path": str(root / "base")},
        train={"checkpoint_dir": str(root / "ckpts"), "logging_dir": str(root / "ckpts" / "ppo")},
    )
    assert claim_outputs("ppo", config, overwrite=False, resume="auto") is None
    assert not half.exists()


def rolled_back(step: int | None) -> Any:
    """Stands for a trainer after 9 steps that went back to `step`; its export is a folder."""
    best = None if step is None else {"step": step}
    monitor = SimpleNamespace(rolled_back=step is not None, best_by_heldout=best)
    return SimpleNamespace(
        iter_count=9, heldout=SimpleNamespace(monitor=monitor), save_pretrained=lambda path: Path(path).mkdir()
    )


def test_the_last_lines_name_what_there_is(tmp_path: Path) -> None:
    train = replace(train_config(), checkpoint_dir=str(tmp_path), heldout_metric="metrics/gold")
    assert finish(rolled_back(None), train) == ["done after 9 steps"]
    for name in ("best_checkpoint", "best_heldout_checkpoint"):
        (tmp_path / name / "hf_model").mkdir(parents=True)
    (line,) = finish(rolled_back(None), train)
    assert f"by reward is in {tmp_path}/best_checkpoint/hf_model" in line
    assert f"by metrics/gold is in {tmp_path}/best_heldout_checkpoint/hf_model" in line
    assert "gold" not in finish(rolled_back(None), replace(train, heldout_metric=None))[0]
    assert not (tmp_path / "hf_model").exists()


def test_after_a_stop_the_policy_to_use_comes_first(tmp_path: Path) -> None:
    for name in ("best_checkpoint", "best_heldout_checkpoint"):
        (tmp_path / name / "hf_model").mkdir(parents=True)
    lines = finish(rolled_back(4), replace(train_config(), checkpoint_dir=str(tmp_path), heldout_metric="metrics/gold"))
    assert lines[0].startswith(f"the policy to use is in {tmp_path}/best_heldout_checkpoint/hf_model")
    assert "stopped at step 9" in lines[0] and "went back to step 4" in lines[0]
    assert str(tmp_path / "hf_model") in lines[1] and (tmp_path / "hf_model").is_dir()
    assert "best_checkpoint" in lines[2]


def test_a_resume_takes_the_policy_gone_back_to_away(root: Path) -> None:
    finished_run(root / "ckpts")
    (root / "ckpts" / "checkpoint_4" / "trainer_state.json").write_text('{"iter_count": 4}')
    write_manifest(root / "ckpts" / "checkpoint_4")
    config = default_ppo_config().evolve(
        model={"model_path": str(root / "base")},
        train={"checkpoint_dir": str(root / "ckpts"), "logging_dir": str(root / "ckpts" / "ppo")},
    )
    half = root / "ckpts" / "ppo" / "eval" / ".step_000003.csv.writing-1"
    half.touch()  # by a kill
    assert claim_outputs("ppo", config, overwrite=False, resume=True) == str(root / "ckpts" / "checkpoint_4")
    assert not half.exists() and (root / "ckpts" / "ppo" / "metrics.jsonl").exists()
    assert not list((root / "ckpts").glob("hf_model*")) and (root / "ckpts" / "best_checkpoint").exists()


def test_the_loops_own_settings_say_the_same() -> None:
    nested = replace(train_config(), on_overoptimization="stop")
    options = StageOptions(train=nested, monitor="gold")
    config = options.engine_config()
    require_limits(config)  # not refused before it is known what is watched
    choose_monitor(options, metrics_of(True, False), config.train)
    assert (config.train.heldout_metric, config.train.on_overoptimization) == ("metrics/gold", "stop")
    nested.save_optimizer = False
    config = options.engine_config()
    choose_monitor(options, metrics_of(True, False), config.train)
    with pytest.raises(UserError, match=r"set train\.save_optimizer to true"):
        require_limits(config)


@dataclass
class StageOptions(MonitoredOptions):
    """A stage with a method."""

    method: Any = field(default_factory=lambda: default_ppo_config().method)


@pytest.mark.parametrize(
    ("monitor", "metric", "words"),
    [
        ("gold", "metrics/rougeL", "--monitor gold and --train.heldout_metric metrics/rougeL contradict"),
        ("none", "metrics/gold", "--monitor none and .* contradict"),
        ("auto", "metrics/god", "metrics/god is not measured here; did you mean 'metrics/gold'"),
        ("auto", "metrics/second_reward", "metrics/second_reward is not measured here"),
        ("auto", "metrics/reward", "is the reward itself"),
        ("gold", "metrics/gold", None),
    ],
)
def test_a_metric_named_by_hand_is_checked(monitor: Any, metric: str, words: str | None) -> None:
    train = replace(train_config(), heldout_metric=metric)
    if words is None:
        assert "watching metrics/gold" in choose_monitor(
            MonitoredOptions(monitor=monitor), metrics_of(True, False), train
        )
        return
    with pytest.raises(UserError, match=words):
        choose_monitor(MonitoredOptions(monitor=monitor), metrics_of(True, False), train)


def reward_model(root: Path, *parts: str, posts: list[str] | None = None) -> str:
    """A random reward model below `root`, with what it was trained on beside it where `posts` are given."""
    folder = root.joinpath(*parts)
    tokenizer = new_reward_tokenizer(root / "base")
    new_reward_model(root / "base", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if posts is not None:
        write_training_posts(folder, posts)
    return str(folder)


def test_the_runs_own_second_reward_model_may_be_trained_against(root: Path) -> None:
    first, own = reward_model(root, "ckpts", "reward_model"), reward_model(root, "ckpts", "second_reward_model")
    copy = str(root / "copy")
    shutil.copytree(own, copy)
    for trained in ([first, own], [first, f"{own}/"], [copy]):
        folder, (said,) = second_reward_folder(MonitoredOptions(root=str(root)), trained)
        assert folder is None and "is trained against, so it does not judge" in said
        with pytest.raises(UserError, match=r"--monitor second_reward_model: .* is trained against"):
            second_reward_folder(MonitoredOptions(root=str(root), monitor="second_reward_model"), trained)
    for named in (own, copy):  # a copy is no other judge
        with pytest.raises(UserError, match=r"--second_reward_model .* is trained against"):
            second_reward_folder(MonitoredOptions(root=str(root), second_reward_model=named), [own])
    assert second_reward_folder(MonitoredOptions(root=str(root)), [first])[0] == own


def test_posts_that_both_reward_models_know_are_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = reward_model(root, "judge", posts=["a", "b", "c"])
    others = [
        reward_model(root, name, posts=posts) for name, posts in (("x", ["b", "c", "d"]), ("y", ["d"]), ("z", None))
    ]
    options = MonitoredOptions(root=str(root), second_reward_model=judge)
    metrics = policy_metrics("ppo", options, others, [post("a")], TOKENIZER, 200)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("[ppo] warning: ") for line in lines)
    assert "was trained on 2 of the posts of" in lines[0] and lines[0].count(f"{root}/x") == 1
    assert "not known" in lines[1] and f"{root}/z" in lines[1]
    # What a resumed run compares: another judge, or another way to score, is another source
    sources = {metrics.source_of("metrics/second_reward")}
    for other in (replace(options, second_reward_model=others[0]), replace(options, reward_relative=False)):
        sources.add(policy_metrics("ppo", other, [], [post("a")], TOKENIZER, 200).source_of("metrics/second_reward"))
    assert len(sources) == 3
    again = policy_metrics("ppo", options, [], [post("b")], TOKENIZER, 200)
    assert again.source_of("metrics/second_reward") == metrics.source_of("metrics/second_reward")


def test_a_member_that_is_missing_is_not_said_to_be_the_runs_own(root: Path) -> None:
    reward_model(root, "ckpts", "reward_model")
    options = MonitoredOptions(reward_model=f"{root}/ckpts/reward_model,{root}/absent")
    with pytest.raises(UserError, match=r"absent: --reward_model names it: check the path$"):
        require_reward_models(options, str(root))
    with pytest.raises(UserError, match=r"train_reward_model_gptneo\.py` with the same --root makes it"):
        require_reward_models(MonitoredOptions(), str(root / "empty"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Prompts of instructions, the last of which alone has a response."""
    rows = [{"prompt": f"Name {number} things."} for number in range(12)]
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"instruction": "Go.", "response": "Gone."}]))
    return path


def loaded(data: Path, **options: Any) -> tuple[list[Post], list[Post]]:
    config = default_ppo_config()
    config.train.seq_length, config.method.gen_kwargs = 200, {"max_new_tokens": 8}
    given = PolicyOptions(task="instruct", data=str(data), reward_relative=False)
    return load_prompts("ppo", replace(given, **options), config, tiny_tokenizer(data.parent / "tokenizer"))


def test_a_share_of_the_prompts_is_held_out(prompts: Path) -> None:
    train, valid = loaded(prompts, valid_percentage=40, eval_limit=None)
    assert len(train) + len(valid) == 13 and train and valid
    assert all(Part(40, True).has(post.prompt) for post in valid)
    assert not any(Part(40, True).has(post.prompt) for post in train)
    assert len(loaded(prompts, valid_percentage=40, eval_limit=1)[1]) == 1


def test_without_a_response_nothing_can_be_taken_off(prompts: Path) -> None:
    assert [len(posts) for posts in loaded(prompts)] == [13, 13]
    with pytest.raises(UserError, match=r"prompts\.jsonl.*1: no response .*24 of 26 posts.*--reward_relative false"):
        loaded(prompts, reward_relative=True)


def test_prompts_alone_have_no_rouge(tmp_path: Path) -> None:
    posts = [Post("a", "p", ""), Post("b", "p", "I am.")]
    metrics = policy_metrics("ppo", MonitoredOptions(root=str(tmp_path), task="instruct"), [], posts, TOKENIZER, 9)
    given = {"prompts": ["p", "p"], "outputs": ["I am.", "I was."], "sample_id": ["a", "b"]}
    assert metrics(reference=["", "I am."], **given) == {}
    assert metrics(reference=["I am.", "I am."], **given)["rougeL"][0] == 1.0
