"""SFT under ZeRO stage 3: two CPU ranks with nothing whole between modules, against one process."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_stage import run_two_ranks, zero3_file

from sft.train_gptneo_summarize import main
from trlx.utils.metrics import read_metrics


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_two_ranks_in_pieces_train_and_evaluate_as_one_process(root: Path) -> None:
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed")
    common = [f"--root={root}", "--model={root}/base", "--data={root}/data/sft", "--precision=fp32", "--max_steps=2"]
    common += ["--max_length=128", "--learning_rate=1e-3", "--warmup_steps=0", "--eval_steps=1", "--preflight=false"]
    common += ["--valid_limit=5", "--rouge_samples=3", "--rouge_batch_size=1", "--max_new_tokens=8"]  # unequal shares
    two, one = root / "two", root / "one"
    pieces = [f"--deepspeed={zero3_file(root)}", "--batch_size=2", f"--out={two}"]
    ran = run_two_ranks("sft/train_gptneo_summarize.py", *common, *pieces)
    assert ran.returncode == 0, ran.stderr[-3000:]
    main([*common, "--deepspeed=null", "--batch_size=4", f"--out={one}"])

    record = json.loads((two / "run.json").read_text())
    assert record["finished"] and record["deepspeed"] and record["world_size"] == record["accelerate_ranks"] == 2
    assert (two / "checkpoint-2" / "global_step2" / "zero_pp_rank_1_mp_rank_00_model_states.pt").exists()  # in pieces
    alone, together, start = (load_file(folder / "model.safetensors") for folder in (one, two, root / "base"))
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        assert (weight - together[name]).abs().max() <= 1e-5 < (weight - start[name]).abs().max(), name
    in_checkpoint = load_file(two / "checkpoint-2" / "model.safetensors")
    assert all((in_checkpoint[name] - weight).abs().max() <= 1e-5 for name, weight in alone.items())

    lines = [[line for line in read_metrics(folder) if "eval_loss" in line] for folder in (one, two)]
    assert [line["step"] for line in lines[1]] == [1, 2]
    for expected, seen in zip(*lines, strict=True):
        for name in ("eval_loss", "eval_rouge1", "eval_rougeL", "eval_eos_rate", "eval_response_length"):
            assert seen[name] == pytest.approx(expected[name], rel=1e-5), name
