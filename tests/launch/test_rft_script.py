"""trlx_gptneo_rft_summarization.py on tiny models, end to end, and what it says when something is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_stage import REPO, run_plain
from transformers import AutoModelForCausalLM, AutoTokenizer

import trlx_gptneo_rft_summarization as script
import trlx_gptneo_text_summarization as ppo_script
from reward_model.model import new_reward_model, new_reward_tokenizer
from tasks.run_folder import RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.digest import model_digest
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

TINY = {
    "data": "{root}/data/sft",
    "train_limit": 6,
    "eval_limit": 3,
    "model": {"model_path": "{root}/ckpts/sft", "num_layers_unfrozen": -1},
    "optimizer": {"name": "adamw", "kwargs": {"lr": 1e-3}},
    "train": {
        "trainer": "AccelerateRFTTrainer",
        "checkpoint_dir": "{root}/ckpts/rft",
        "logging_dir": "{root}/ckpts/rft/logs",
        "seq_length": 96,
        "epochs": 100,
        "total_steps": 3,
        "batch_size": 4,
        "eval_interval": 1,
        "checkpoint_interval": 100,
        "resume_interval": 0,
        "tracker": None,
        "heldout_metric": "metrics/rougeL",
    },
    "method": {
        "name": "RFTConfig",
        "start_percentile": 0.5,
        "n_improve_steps": 2,
        "n_generations_per_prompt": 4,
        "gen_kwargs": {"max_new_tokens": 8, "do_sample": True},
    },
}


@pytest.fixture
def ready(root: Path) -> Path:
    """SFT and reward model are the random base model."""
    folder = RunFolder.of(root)
    shutil.copytree(root / "base", folder.sft)
    tokenizer = new_reward_tokenizer(root / "base")
    new_reward_model(root / "base", tokenizer).save_pretrained(folder.reward_model)
    tokenizer.save_pretrained(folder.reward_model)
    (root / "rft.yaml").write_text(yaml.safe_dump(TINY))
    return root


def test_a_few_steps_leave_a_policy_where_others_look_for_it(ready: Path) -> None:
    options = ("--config", str(ready / "rft.yaml"), "--root", str(ready))
    done = run_plain("trlx_gptneo_rft_summarization.py", *options, ranks=1)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = RunFolder.of(ready)
    assert "[rft] 6 prompts, " in done.stdout
    assert f"the best policy by reward is in {folder.rft_policy}" in done.stdout
    assert f"the best policy by metrics/rougeL is in {folder.ckpts}/rft/best_heldout_checkpoint/hf_model" in done.stdout
    AutoModelForCausalLM.from_pretrained(folder.rft_policy)
    assert AutoTokenizer.from_pretrained(folder.rft_policy).eos_token == "<|endoftext|>"
    last = folder.ckpts / "rft" / "checkpoint_3" / "hf_model"
    assert model_digest(last) != model_digest(folder.sft)  # it has learned something
    rows = read_metrics(folder.ckpts / "rft" / "logs")
    assert [row["step"] for row in rows if "reward/mean" in row] == [0, 1, 2, 3]
    assert any("rollout_scores/mean" in row for row in rows)
    assert not (folder.ckpts / "checkpoint_3").exists()  # PPO's place is left alone
    with pytest.raises(UserError, match="already holds a run: pass --overwrite"):
        script.main(list(options))


def test_missing_models_are_named_with_what_makes_them(ready: Path) -> None:
    folder = RunFolder.of(ready)
    shutil.rmtree(folder.reward_model)
    options = ["--config", str(ready / "rft.yaml"), "--root", str(ready)]
    with pytest.raises(UserError, match=r"reward_model.*train_reward_model_gptneo\.py"):
        script.main(options)
    shutil.rmtree(folder.sft)
    with pytest.raises(UserError, match=r"no SFT model in .*train_gptneo_summarize\.py"):
        script.main(options)


def test_a_reward_model_that_failed_its_gate_is_refused(ready: Path) -> None:
    folder = RunFolder.of(ready).reward_model
    gate = {"format": 1, "verdict": "FAIL", "model_digest": model_digest(folder), "checks": []}
    (folder / "gate.json").write_text(json.dumps(gate))
    with pytest.raises(UserError, match="failed its gate"):
        script.main(["--config", str(ready / "rft.yaml"), "--root", str(ready)])


@pytest.mark.parametrize("script_of", [script, ppo_script])
def test_nothing_is_removed_before_the_options_are_known_to_work(ready: Path, script_of: Any) -> None:
    ckpts = RunFolder.of(ready).ckpts
    ours = ckpts / "rft" if script_of is script else ckpts
    kept = [ours / "best_checkpoint" / "hf_model", ours / "checkpoint_3"]
    for folder in kept:
        folder.mkdir(parents=True)
    config = TINY if script_of is script else {"data": TINY["data"], "train": {"seq_length": 96}, "eval_limit": 3}
    (ready / "some.yaml").write_text(yaml.safe_dump(config))
    options = ["--config", str(ready / "some.yaml"), "--root", str(ready), "--overwrite", "--train_limit", "6"]
    options += ["--train.heldout_metric", "metrics/rougeL", "--train.on_overoptimization", "stop"]
    with pytest.raises(UserError, match=r"set train\.save_optimizer to true"):
        script_of.main([*options, "--train.save_optimizer", "false"])
    assert all(folder.is_dir() for folder in kept)


@pytest.mark.parametrize("where", ["configs", "configs/tiny"])
def test_configs_load_and_write_beside_ppo(where: str) -> None:
    options = parse_config(script.RFTOptions, "", ["--config", str(REPO / where / "rft.yaml")])
    assert options.train.checkpoint_dir == "{root}/ckpts/rft"
    assert options.train.logging_dir == "{root}/ckpts/rft/logs"
    assert options.train.trainer == "AccelerateRFTTrainer"
    assert options.method.gen_kwargs["temperature"] == 1.0 and options.method.gen_kwargs["top_k"] == 0


def test_the_full_size_config_is_the_default() -> None:
    path = str(REPO / "configs" / "rft.yaml")
    assert parse_config(script.RFTOptions, "", ["--config", path]) == parse_config(script.RFTOptions, "", [])
