"""The reward model under ZeRO stage 3: two CPU ranks with nothing whole between modules; part of it frozen; resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_stage import run_two_ranks, zero3_file

from launch.checks import stage_checkpoint_bytes
from reward_model.train_reward_model_gptneo import main
from trlx.utils.metrics import read_metrics

pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed")

SCRIPT = "reward_model/train_reward_model_gptneo.py"
# The same on both sides of a pair, whatever it is: its gradient is nothing but rounding, which Adam makes steps of.
WITHOUT_EFFECT = "transformer.ln_f.bias"


def options(root: Path) -> list[str]:
    data = ["--model={root}/base", "--data={root}/data/comparisons", "--references={root}/data/sft", "--valid_limit=5"]
    size = ["--max_length=128", "--max_steps=3", "--gradient_accumulation=2", "--precision=fp32", "--preflight=false"]
    rates = ["--learning_rate=1e-3", "--warmup_steps=0", "--frozen_fraction=0.5", "--gate=null"]
    return [f"--root={root}", *data, *size, *rates, "--eval_steps=1", "--save_steps=1"]


@pytest.fixture
def trained(root: Path) -> Path:
    """Two ranks of one pair, two microbatches: the run that the others are held to."""
    return two_ranks(root, root / "two")


def two_ranks(root: Path, out: Path, *more: str) -> Path:
    pieces = [f"--deepspeed={zero3_file(root)}", "--batch_size=1", f"--out={out}"]
    ran = run_two_ranks(SCRIPT, *options(root), *pieces, *more)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return out


@pytest.mark.e2e
@pytest.mark.timeout(500)
def test_two_ranks_in_pieces_train_as_one_process_and_resume_bit_identically(root: Path, trained: Path) -> None:
    one = root / "one"
    main([*options(root), "--deepspeed=null", "--batch_size=2", f"--out={one}"])
    as_one_process(trained, one, root / "base")
    checkpoint_is_as_large_as_expected(trained)

    resumed = root / "resumed"
    shutil.copytree(trained, resumed, ignore=shutil.ignore_patterns("checkpoint-3"))
    two_ranks(root, resumed, "--resume=auto")
    record = json.loads((resumed / "run.json").read_text())
    assert record["resumed_from"] == "checkpoint-2" and record["steps"] == 3
    assert (resumed / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


def as_one_process(together: Path, alone: Path, base: Path) -> None:
    record = json.loads((together / "run.json").read_text())
    assert record["finished"] and record["deepspeed"] and record["world_size"] == record["accelerate_ranks"] == 2
    frozen = json.loads((together / "results.json").read_text())["frozen"]["parameters"]
    weights, expected, start = (load_file(folder / "model.safetensors") for folder in (together, alone, base))
    assert weights.keys() == expected.keys() and 0 < len(frozen) < len(weights)
    for name, weight in weights.items():
        assert weight.dtype == torch.float32
        if name in frozen:
            assert torch.equal(weight[: len(start[name])], start[name]), name
        elif name != WITHOUT_EFFECT:
            assert (weight - expected[name]).abs().max() <= 1e-5, name
    moved = "transformer.h.1.mlp.c_fc.weight"
    assert (weights[moved] - start[moved]).abs().max() > 1e-3
    lines = [[line for line in read_metrics(folder) if "eval_loss" in line] for folder in (together, alone)]
    assert [line["eval_loss"] for line in lines[0]] == pytest.approx([line["eval_loss"] for line in lines[1]], rel=1e-5)
    assert [line["eval_accuracy"] for line in lines[0]] == [line["eval_accuracy"] for line in lines[1]]


def checkpoint_is_as_large_as_expected(out: Path) -> None:
    frozen = set(json.loads((out / "results.json").read_text())["frozen"]["parameters"])
    sizes = {name: weight.numel() for name, weight in load_file(out / "model.safetensors").items()}
    trains = sum(size for name, size in sizes.items() if name not in frozen)
    expected = stage_checkpoint_bytes(sum(sizes.values()), trains, deepspeed=True, half=False, sharded=True)
    tensors = [*(out / "checkpoint-2" / "global_step2").iterdir(), out / "checkpoint-2" / "model.safetensors"]
    assert 0.8 < expected / sum(path.stat().st_size for path in tensors) <= 1  # the rest is what pickle adds
