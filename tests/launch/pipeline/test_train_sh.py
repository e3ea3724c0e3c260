"""`bash train.sh sgl_mach` from SFT to the evaluation, on two CPU processes, with a few steps of each stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.local import without_deepspeed
from launch.pipeline.probe import devices
from tasks.run_folder import REPO
from tests.tiny_stage import environment, tiny_root

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(without_deepspeed()), reason=without_deepspeed() or "DeepSpeed can run"),
    pytest.mark.skipif(devices()[0] < 2, reason="there is one device"),
]
TRAINER: dict[str, Any] = {
    **{"max_length": 96, "learning_rate": 1e-3, "batch_size": 2, "eval_batch_size": 4, "max_steps": 2},
    **{"warmup_steps": 0, "precision": "fp32", "gradient_checkpointing": False, "eval_steps": 2, "log_steps": 1},
    "deepspeed": "{repo}/configs/tiny/ds_config.json",
}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {**TRAINER, "model": "{root}/base", "data": "{root}/data/sft", "rouge_samples": 0},
    "reward_model": {
        **TRAINER,
        **{"model": "{root}/ckpts/sft", "data": "{root}/data/comparisons", "references": "{root}/data/sft"},
        "gate": None,
    },
    "ppo": {
        "data": "{root}/data/sft",
        "model": {"model_path": "{root}/ckpts/sft", "num_layers_unfrozen": 1},
        "tokenizer": {"tokenizer_path": "{root}/ckpts/sft"},
        "train": {"seq_length": 96, "total_steps": 50, "epochs": 2, "batch_size": 4, "eval_interval": 2},
        "method": {"num_rollouts": 8, "chunk_size": 4, "ppo_epochs": 1, "gen_kwargs": {"max_new_tokens": 6}},
    },
    "evaluation": {
        **{"data": "{root}/data/sft", "split": "valid", "limit": 4, "max_length": 96, "max_new_tokens": 6},
        **{"kl_posts": 2, "resamples": 20},
    },
}


def write_configs(folder: Path) -> Path:
    """The stages' YAML files, and the pipeline's, which names them."""
    for name, values in STAGES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    path = folder / "pipeline.yaml"
    named = {name: str(folder / f"{name}.yaml") for name in STAGES}
    path.write_text(yaml.safe_dump({**named, "overrides": {"ppo": {"train.total_steps": 2}}, "seed": 5}))
    return path


def test_four_stages_on_two_processes_leave_a_judged_policy(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    root = tiny_root(tmp_path / "run")
    config = write_configs(tmp_path / "configs")
    command = ["bash", str(REPO / "train.sh"), "sgl_mach", "--config", str(config), "--root", str(root)]
    ran = subprocess.run(
        [*command, "--processes", "2", "--check", "false"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        check=False,
        env={**environment(CUDA_VISIBLE_DEVICES=""), "PYTHON": sys.executable, "PATH": os.environ["PATH"]},
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    record = json.loads((root / "run.json").read_text())
    assert {stage: entry["state"] for stage, entry in record["stages"].items()} == dict.fromkeys(STAGES, "finished")
    assert record["starts"][0]["processes"] == 2 and record["starts"][0]["seeds"] == dict.fromkeys(STAGES, 5)
    assert {path.stem for path in (root / "logs").iterdir()} == set(STAGES)
    for stage in ("sft", "reward_model"):
        own = json.loads((root / "ckpts" / stage / "run.json").read_text())
        assert own["world_size"] == 2 and own["deepspeed"] and own["options"]["seed"] == 5
    best = json.loads((root / "ckpts" / "best_checkpoint" / "trainer_state.json").read_text())
    assert best["world_size"] == 2 and best["iter_count"] <= 2  # plain DDP: configs/accelerate/cpu.yaml
    assert set(json.loads((root / "results.json").read_text())["models"]) >= {"sft", "ppo"}
