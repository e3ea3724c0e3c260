"""The whole pipeline, shrunken, with two processes under ZeRO-2 on CPUs: the demo's own driver, scripts and launchers.

What is asserted is the wiring: two ranks that see different data in every training stage, every output where the next
stage and the reader look for it, and the documented ways to load the result. Whether RLHF works is the full demo's to
show.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from evaluation.samples import read_samples
from launch.demo import DemoOptions, run_demo
from launch.local import without_deepspeed
from tasks.run_folder import REPO
from trlx.utils.metrics import read_metrics

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(without_deepspeed()), reason=without_deepspeed() or "DeepSpeed can run"),
]

SHRUNKEN: dict[str, dict[str, Any]] = {
    "posts": {
        "sft_train": 480,
        "sft_valid": 16,
        "rm_posts": 120,
        "ppo_train": 96,
        "ppo_valid": 12,
        "test": 24,
        "second_posts": 40,
    },
    "sft": {"eval_steps": 4, "save_steps": 4, "rouge_samples": 4, "warmup_steps": 2, "log_steps": 1},
    "pairs": {"valid1": 16, "test": 24, "max_new_tokens": 12, "samples": 1},
    # The doctor takes seconds of each stage; SFT shows that it comes before training.
    "reward_model": {
        "preflight": False,
        "eval_steps": 4,
        "save_steps": 4,
        "warmup_steps": 2,
        "log_steps": 1,
        "references_limit": 16,
    },
    "second_reward_model": {
        "preflight": False,
        "eval_steps": 4,
        "save_steps": 4,
        "warmup_steps": 2,
        "log_steps": 1,
        "references_limit": 16,
    },
    "ppo": {
        "preflight": False,
        "method": {"num_rollouts": 8, "chunk_size": 8, "ppo_epochs": 2, "gen_kwargs": {"max_new_tokens": 12}},
        "train": {
            "batch_size": 4,
            "minibatch_size": 2,
            "eval_interval": 2,
            "checkpoint_interval": 2,
            "rollout_logging_dir": "{root}/rollouts",
        },
        "eval_limit": 6,
    },
    "frontier": {"limit": 6, "samples": 3, "max_new_tokens": 12, "resamples": 200},
    "inference": {"limit": 12, "kl_posts": 6, "max_new_tokens": 12, "resamples": 200},
}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shrunken pipeline."""
    folder = tmp_path_factory.mktemp("pipeline")
    configs = folder / "configs"
    configs.mkdir()
    for name, changes in SHRUNKEN.items():
        values = yaml.safe_load((REPO / "configs" / "tiny" / f"{name}.yaml").read_text())
        (configs / f"{name}.yaml").write_text(yaml.safe_dump(_merged(values, changes)))
    run = folder / "run"
    run_demo(DemoOptions(str(run), configs=str(configs), sft_steps=8, reward_steps=8, ppo_steps=6))
    return run


@pytest.mark.parametrize("stage", ["sft", "reward_model", "second_reward_model"])
def test_trainer_stages_had_two_ranks_with_different_data(root: Path, stage: str) -> None:
    record = json.loads((root / "ckpts" / stage / "run.json").read_text())
    assert record["world_size"] == 2 and record["deepspeed"] and record["finished"]
    assert len({batch["sha256"] for batch in record["first_batches"]}) == 2


def test_ppo_had_two_ranks_with_different_prompts(root: Path) -> None:
    prompts = []
    for rank in range(2):
        (path,) = (root / "rollouts").glob(f"run-*/epoch-00000-rank-{rank}.jsonl")
        lines = path.read_text().splitlines()
        prompts.append({json.loads(line)["prompt"] for line in lines})
    assert all(len(seen) == 8 for seen in prompts)
    assert not prompts[0] & prompts[1]
    state = json.loads((root / "ckpts" / "best_checkpoint" / "trainer_state.json").read_text())
    assert state["world_size"] == 2


def test_ppo_heard_the_gate_and_watched_gold(root: Path) -> None:
    gate = json.loads((root / "ckpts" / "reward_model" / "gate.json").read_text())
    (log,) = (root / "logs").glob("*_PPO.log")
    assert f"reward model gate: {gate['verdict']}" in log.read_text()
    monitor = json.loads((root / "ckpts" / "ppo" / "monitor.json").read_text())
    assert monitor["metric"] == "metrics/gold"
    assert [entry["step"] for entry in monitor["history"]] == [0, 2, 4, 6]
    best = json.loads((root / "ckpts" / "best_heldout_checkpoint" / "trainer_state.json").read_text())
    assert best["iter_count"] == monitor["best_by_heldout"]["step"]


def test_the_second_reward_model_is_a_fresh_judge(root: Path) -> None:
    results = json.loads((root / "results.json").read_text())
    assert results["second_reward_model"]["training_posts_shared_with_first"] == 0
    assert results["models"]["ppo"]["second_reward"]["n"] == 12


def test_the_frontier_has_policies_along_training(root: Path) -> None:
    points = json.loads((root / "frontier.json").read_text())["points"]
    assert {point["kind"] for point in points} == {"sft", "best_of_n", "ppo", "ppo_heldout", "ppo_checkpoint"}
    assert [point["step"] for point in points if point["kind"] == "ppo_checkpoint"] == [2, 4, 6]
    assert all(point["second_reward"] is not None and point["gold"] is not None for point in points)


def test_the_report_has_everything(root: Path) -> None:
    page = (root / "report.html").read_text(encoding="utf-8")
    for words in ("ROUGE scores", "Win rates against the reference", "Frontier", "calibration", "Training curves"):
        assert words in page, words
    for image in ("frontier", "curves-ppo", "curves-sft", "curves-monitor", "calibration", "distributions"):
        assert f'id="figure-{image}"' in page, image


def test_every_stage_left_metrics_and_event_files(root: Path) -> None:
    for folder, name in (("sft", "loss"), ("reward_model", "loss"), ("ppo", "losses/total_loss")):
        assert any(name in line for line in read_metrics(root / "ckpts" / folder))
        assert list((root / "ckpts" / folder).rglob("events.out.tfevents*"))


def test_models_load_with_transformers_alone(root: Path) -> None:
    for folder in ("ckpts/sft", "ckpts/best_checkpoint/hf_model"):
        assert AutoModelForCausalLM.from_pretrained(root / folder).dtype == torch.float32
    reward = AutoModelForSequenceClassification.from_pretrained(root / "ckpts" / "reward_model")
    assert reward.config.num_labels == 1 and reward.config.pad_token_id != reward.config.eos_token_id


def test_the_documented_conversion_of_zero_shards_equals_hf_model(root: Path) -> None:
    output = "ckpts/best_checkpoint/best_checkpoint/pytorch_model.bin"
    command = ["ckpts/best_checkpoint/zero_to_fp32.py", "ckpts/best_checkpoint/best_checkpoint", output]
    subprocess.run([sys.executable, *command], cwd=root, check=True, capture_output=True)
    exported = AutoModelForCausalLM.from_pretrained(root / "ckpts/best_checkpoint/hf_model")
    joined = torch.load(root / output, weights_only=True)
    reloaded = AutoModelForCausalLM.from_config(exported.config)
    reloaded.load_state_dict(joined)
    for name, value in exported.state_dict().items():
        assert torch.equal(value, reloaded.state_dict()[name]), name


def test_ppo_moved_the_top_layers_and_nothing_below(root: Path) -> None:
    before = load_file(root / "ckpts" / "sft" / "model.safetensors")
    after = load_file(root / "ckpts" / "best_checkpoint" / "hf_model" / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before if ".h.3." in name)
    assert all(torch.equal(before[name], after[name]) for name in before if ".h.0." in name or "wte" in name)


def test_tables_csvs_and_results(root: Path) -> None:
    results = json.loads((root / "results.json").read_text())
    baselines = {"title", "first_sentence", "first_30_words"}
    assert set(results["models"]) - {"ppo_heldout"} == {"sft", "ppo"} | baselines
    assert results["models"]["ppo"]["kl"]["k1"]["n"] == 6  # one vocabulary: the exported tokenizer has no token more
    for name in ("sft", "ppo"):
        rows = read_samples(root / "metadata" / f"{name}_with_reward_scores_sample.csv")
        assert len(rows) == 12 and all(row.gold_pred is not None for row in rows)
    assert (root / "metadata" / "results.md").read_text().count("| ") > 10
    assert set(json.loads((root / "timing.json").read_text())["seconds"]) >= {"SFT", "PPO", "evaluation"}
