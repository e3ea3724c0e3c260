"""Over-optimisation end to end: it happens, it is noticed, training stops and goes back to the better policy.

The miniature, shrunken until one process trains it in seconds: a reward model whose labels favour length, PPO against
it without a KL penalty, gold watched on held-out prompts. The seed is fixed; what is asserted leaves room. A model this
small copies values badly, so what is longer is worse from the start: that gold first rises is seen in the study of the
full-sized miniature (`docs/over-optimization.md`), not here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from launch.local import python_command, run_stage, stage_environment, trainer_command
from launch.study.overoptimization import make_biased_reward_model, paired, ppo_options
from launch.study.parts import ALONE, StudyOptions, ppo_once, require_finished
from launch.study.scores import Bench
from tasks.run_folder import REPO, RunFolder

pytestmark = pytest.mark.e2e

SIZES = {"sft_train": 4000, "sft_valid": 16, "rm_posts": 500, "ppo_train": 600, "ppo_valid": 100, "test": 150}
EXPORTS = ("hf_model", "best_heldout_checkpoint/hf_model")
STEPS, INTERVAL, EVAL_POSTS = 64, 8, 100


def config(name: str, root: Path, *options: str) -> list[str]:
    return ["--config", str(REPO / "configs" / "tiny" / f"{name}.yaml"), "--root", str(root), *options]


def run(root: Path, name: str, command: Sequence[str]) -> None:
    run_stage(command, stage_environment(ALONE), root / "logs" / f"{name}.log")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyOptions:
    """A run with a small SFT model, preference pairs and a reward model that favours length."""
    root = tmp_path_factory.mktemp("overoptimization") / "run"
    sizes = [part for name, size in SIZES.items() for part in (f"--{name}", str(size))]
    # All attention reaches the whole post, so that two layers suffice for copying out of it.
    size = ["--model.layers", "2", "--model.window", "256"]
    miniature = ["-m", "tasks.miniature"]
    run(
        root,
        "posts",
        python_command([*miniature, "posts", *config("posts", root, *sizes, "--second_posts", "20", *size)]),
    )
    quick = ["--max_steps", "600", "--batch_size", "8", "--eval_steps", "600", "--rouge_samples", "4"]
    quick += ["--loss_on_prompt", "true"]  # learning to copy takes half the steps
    run(root, "sft", trainer_command(ALONE, "sft/train_gptneo_summarize.py", config("sft", root, *quick)))
    held_out = ["--valid1", "30", "--test", "30"]
    run(root, "pairs", python_command([*miniature, "pairs", *config("pairs", root, *held_out)]))
    made = StudyOptions(RunFolder.of(root), root / "study", posts=150, kl_posts=0)
    require_finished(made.run)
    make_biased_reward_model(made, length_bias=0.6)
    return made


@pytest.fixture(scope="module")
def policy(study: StudyOptions) -> Path:
    """The folder of a PPO run that may stop itself."""
    folder = study.folder / "ppo"
    options = ppo_options(study.run.biased_reward_model, 1, STEPS, INTERVAL, EVAL_POSTS)
    judge, saved = study.run.biased_reward_model, ["best_checkpoint", "best_heldout_checkpoint"]
    ppo_once(study, folder, [*options, "--on_overoptimization", "stop"], [judge], saved)
    return folder


@pytest.fixture(scope="module")
def monitor(policy: Path) -> dict[str, Any]:
    return dict(json.loads((policy / "logs" / "monitor.json").read_text()))


def test_gold_falls_while_the_reward_rises(monitor: dict[str, Any]) -> None:
    best, last = monitor["best_by_heldout"], monitor["history"][-1]
    assert last["heldout"]["mean"] < best["heldout"] - 0.1
    assert last["reward"]["mean"] > best["reward"] + 0.5


def test_the_monitor_flags_it_and_training_stops(monitor: dict[str, Any]) -> None:
    steps = [entry["step"] for entry in monitor["history"]]
    assert monitor["flagged_at"] == steps[-1] < STEPS
    assert monitor["rolled_back"]
    assert not any(entry["parted"] for entry in monitor["history"][:-1])


def test_both_best_checkpoints_are_kept_and_differ_on_new_posts(
    study: StudyOptions, policy: Path, monitor: dict[str, Any]
) -> None:
    folders = [policy / name / "hf_model" for name in ("best_checkpoint", "best_heldout_checkpoint")]
    assert monitor["best_by_heldout"]["step"] < monitor["best_by_reward"]["step"]
    by_reward, by_gold = (load_file(folder / "model.safetensors") for folder in folders)
    assert any(not by_reward[name].equal(by_gold[name]) for name in by_gold)
    bench = Bench(study, {"reward": study.run.biased_reward_model})
    one, other = (bench.measure(folder) for folder in folders)
    assert paired(one, other, "reward")["low"] > 0
    assert paired(one, other, "gold")["high"] < 0


def test_the_trainer_ends_with_the_weights_it_went_back_to(policy: Path) -> None:
    """`hf_model` is what the trainer holds after all; it must not be the policy that training stopped with."""
    back, kept = (load_file(policy / name / "model.safetensors") for name in EXPORTS)
    assert back.keys() == kept.keys() and all(back[name].equal(value) for name, value in kept.items())


def test_a_finished_part_is_kept(study: StudyOptions, policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_biased_reward_model(study, length_bias=0.6)
    assert capsys.readouterr().out.splitlines() == [
        "[study] miniature relabel: kept",
        "[study] reward model biased_reward_model: kept",
    ]
