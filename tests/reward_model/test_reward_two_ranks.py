"""The reward model under DeepSpeed's launcher: two CPU ranks, ZeRO-2, bf16, part of the model frozen."""

import json
from pathlib import Path

import pytest
import torch
from tiny_stage import REPO, pairs, run_two_ranks
from transformers import AutoModelForCausalLM

from reward_model.provenance import shared_posts
from reward_model.scorer import RewardScorer
from reward_model.verdict import read_gate, read_verdict

pytest.importorskip("deepspeed", reason="the launcher comes with DeepSpeed")


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_two_ranks_share_the_pairs_and_frozen_weights_stay_exact(root: Path) -> None:
    ran = run_two_ranks(
        "reward_model/train_reward_model_gptneo.py",
        f"--root={root}",
        "--model={root}/base",
        "--data={root}/data/comparisons",
        "--references={root}/data/sft",
        f"--deepspeed={REPO}/configs/ds_config_reward_model.json",
        "--precision=bf16",
        "--frozen_fraction=0.5",
        "--max_length=128",
        "--max_steps=4",
        "--batch_size=2",
        "--gradient_accumulation=2",
        "--learning_rate=1e-3",
        "--warmup_steps=0",
        "--eval_steps=4",
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    out = root / "ckpts" / "reward_model"
    record = json.loads((out / "run.json").read_text())
    assert record["deepspeed"] and record["world_size"] == record["accelerate_ranks"] == 2
    first, second = record["first_batches"]
    assert not set(first["rows"]) & set(second["rows"]) and first["sha256"] != second["sha256"]
    results = json.loads((out / "results.json").read_text())
    assert results["test"]["pairs"] == 8 and results["test"]["accuracy"] == 1.0
    gate, verdict = read_gate(out), read_verdict(out)
    assert gate is not None and gate["accuracy"]["accuracy"]["mean"] == 1.0 and gate["data"]["n"] == 8
    assert verdict is not None and not verdict.stale and "\n".join(verdict.lines[:1]) in ran.stdout
    assert ran.stdout.count("reward model gate:") == 1
    assert shared_posts(out, out) == len({row["prompt"] for row in pairs(24, 3)})  # not those of one rank alone
    before = dict(AutoModelForCausalLM.from_pretrained(root / "base").named_parameters())
    after = dict(RewardScorer.load(out, max_length=9, batch_size=1).model.named_parameters())
    # the module itself was in bf16: only kept copies can give the frozen weights back bit for bit
    for name in results["frozen"]["parameters"]:
        assert torch.equal(after[name][: len(before[name])], before[name]), name
    moved = after["transformer.h.1.attn.attention.q_proj.weight"]
    assert not torch.equal(moved, before["transformer.h.1.attn.attention.q_proj.weight"])
    assert not torch.equal(moved, moved.bfloat16().float())
