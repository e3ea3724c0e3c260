"""SFT on two CPU ranks: under DeepSpeed (ZeRO-2, bf16, float32 master weights; resumed), and against one process."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from tiny_stage import REPO, run_plain, run_two_ranks
from transformers import AutoModelForCausalLM

from trlx.utils.metrics import read_metrics


def sft(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    ran = run_two_ranks(
        "sft/train_gptneo_summarize.py",
        f"--root={root}",
        "--model={root}/base",
        "--data={root}/data/sft",
        f"--deepspeed={REPO}/configs/ds_config_sft.json",
        "--precision=bf16",
        "--max_length=128",
        "--batch_size=2",
        "--learning_rate=1e-3",
        "--warmup_steps=0",
        "--eval_steps=1",
        "--rouge_samples=2",
        "--max_new_tokens=4",
        *more,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_two_ranks_see_different_data_save_float32_masters_and_resume(root: Path) -> None:
    pytest.importorskip("deepspeed", reason="the launcher comes with DeepSpeed")
    ran = sft(root, "--max_steps=2")
    assert "without CPU offload" in ran.stdout or torch.cuda.is_available()
    out = root / "ckpts" / "sft"
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] and record["deepspeed"] and record["precision"] == "bf16"
    assert record["world_size"] == record["accelerate_ranks"] == 2
    first, second = record["first_batches"]
    assert len(first["rows"]) == len(second["rows"]) == 2
    assert not set(first["rows"]) & set(second["rows"]) and first["sha256"] != second["sha256"]
    saved = AutoModelForCausalLM.from_pretrained(out)
    assert saved.dtype == torch.float32
    trained = [p for p in saved.parameters() if p.ndim > 1]
    assert any(not torch.equal(p, p.bfloat16().float()) for p in trained)  # finer than bf16: the master weights

    sft(root, "--max_steps=3", "--resume")
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] and record["resumed_from"] == "checkpoint-2" and record["steps"] == 3
    evaluated = {line["step"]: line["eval_loss"] for line in read_metrics(out) if "eval_loss" in line}
    assert list(evaluated) == [1, 2, 3] and evaluated[3] < evaluated[1]


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_two_ranks_of_two_train_as_one_of_four(root: Path) -> None:
    common = ["--model={root}/base", "--data={root}/data/sft", "--max_length=128", "--max_steps=4", "--eval_steps=4"]
    common += [f"--root={root}", "--precision=fp32", "--rouge_samples=0", "--warmup_steps=0", "--learning_rate=1e-2"]
    for ranks in (1, 2):
        size = [f"--batch_size={4 // ranks}", f"--out={root}/ranks{ranks}", "--deepspeed=null"]
        ran = run_plain("sft/train_gptneo_summarize.py", *common, *size, ranks=ranks)
        assert ran.returncode == 0, ran.stderr[-3000:]
    one, two = (AutoModelForCausalLM.from_pretrained(root / f"ranks{ranks}") for ranks in (1, 2))
    base = AutoModelForCausalLM.from_pretrained(root / "base")
    for (name, a), b, start in zip(one.named_parameters(), two.parameters(), base.parameters(), strict=True):
        # Adam's first steps have the size of the rate whatever the gradient's, so rounding shows a little
        assert (a - b).abs().max() < 1e-4 < (a - start).abs().max(), name
    logs = [read_metrics(root / f"ranks{ranks}") for ranks in (1, 2)]
    # Adam hides a gradient that is off by a factor; its norm at the first step does not
    assert logs[0][0]["grad_norm"] == pytest.approx(logs[1][0]["grad_norm"], rel=1e-4)
    assert logs[0][-1]["eval_loss"] == pytest.approx(logs[1][-1]["eval_loss"], rel=1e-5)
