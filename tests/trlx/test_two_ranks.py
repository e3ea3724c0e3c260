"""Two ranks on the CPU, under DDP and under DeepSpeed ZeRO-2: the same step, different prompts, one reward call."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from launch.local import free_port

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
WRAPPERS = ("ddp", "zero2")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def launch(wrapper: str, mode: str, output: Path, tokenizer: str, timeout: float = 240) -> subprocess.CompletedProcess:
    """The worker under `accelerate launch` with two processes, or alone for the wrapper "none"."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join([str(REPO), str(HERE)]),
    }
    environment.setdefault("TORCH_EXTENSIONS_DIR", str(REPO / ".cache" / "torch_extensions"))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-W", "ignore"]
    if wrapper != "none":
        config = output.with_suffix(".yaml")
        settings = (REPO / "configs" / "tiny" / "accelerate.yaml").read_text()
        if wrapper == "ddp":
            environment["ACCELERATE_USE_CPU"] = "true"
            settings = "distributed_type: MULTI_GPU\nnum_processes: 2\nuse_cpu: true\nmixed_precision: 'no'\n"
        else:
            pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed")
        if wrapper == "zero2-bf16":  # the precision of the full-size configuration
            settings = settings.replace('mixed_precision: "no"', "mixed_precision: bf16")
        output.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(settings)
        command += ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
        command += ["--main_process_port", str(free_port())]
    command += [str(HERE / "two_ranks_worker.py"), mode, str(output), tokenizer]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=timeout, check=False, cwd=REPO
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> dict:
    """One process's steps on the whole batch."""
    output = tmp_path_factory.mktemp("alone") / "step"
    ran = launch("none", "steps", output, tokenizer_folder)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return {**torch.load(output / "weights.pt"), "mixed": torch.load(output / "mixed.pt")}


@pytest.fixture(scope="module", params=WRAPPERS)
def stepped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> Path:
    """The output of three steps on two ranks, and of two with pretraining texts and a moving average."""
    output = tmp_path_factory.mktemp(request.param) / "step"
    ran = launch(request.param, "steps", output, tokenizer_folder)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return output


def test_one_step_of_two_ranks_is_one_of_one(stepped: Path, alone: dict) -> None:
    assert [json.loads((stepped / f"world_{rank}.json").read_text()) for rank in range(2)] == [2, 2]
    both = torch.load(stepped / "weights.pt")
    assert both["weights"].keys() == alone["weights"].keys()
    for name, value in alone["weights"].items():
        torch.testing.assert_close(both["weights"][name].float(), value, atol=1e-5, rtol=0, msg=name)
    for name in (
        "losses/total_loss",
        "gradient_norm",
        "values/mean",
        "values/max",
        "values/min",
        "values/std",
        "ratio",
    ):
        assert both["stats"][name] == pytest.approx(alone["stats"][name], rel=1e-4, abs=1e-6), name


def test_pretraining_texts_and_the_average_are_those_of_one_rank(stepped: Path, alone: dict) -> None:
    both, expected = torch.load(stepped / "mixed.pt"), alone["mixed"]
    for step in range(2):
        for name in ("losses/ptx_loss", "losses/total_loss", "gradient_norm"):
            assert both["stats"][step][name] == pytest.approx(expected["stats"][step][name], rel=1e-4), name
    moved = 0
    for name, value in expected["weights"].items():
        torch.testing.assert_close(both["weights"][name].float(), value, atol=1e-5, rtol=0, msg=name)
        moved += bool((value - expected["before"][name]).abs().max() > 1e-3)
    assert moved > 10
    averages = AutoModelForCausalLM.from_pretrained(stepped / "mixed" / "hf_model_ema").state_dict()
    for name, value in expected["average"].items():
        torch.testing.assert_close(averages[name], value, atol=1e-5, rtol=0, msg=name)
        assert torch.equal(averages[name], both["average"][name])
    noted = [json.loads((stepped / f"mixed_{rank}.json").read_text()) for rank in range(2)]
    assert all(each["same"] for each in noted) and noted[0]["kept"] > 10 and noted[1]["kept"] == 0


def test_a_step_that_one_rank_cannot_take_no_rank_takes(stepped: Path) -> None:
    for rank in range(2):
        noted = json.loads((stepped / f"skipping_{rank}.json").read_text())
        assert noted == {"skipped": [1.0, 0.0], "same": [True, False], "finite": True}


def test_without_a_limit_deepspeed_clips_no_gradient_either(tmp_path: Path, tokenizer_folder: str) -> None:
    """accelerate's own default under DeepSpeed is to clip to 1."""
    steps = []
    for wrapper in ("none", "zero2"):
        ran = launch(wrapper, "step-unclipped", tmp_path / wrapper, tokenizer_folder)
        assert ran.returncode == 0, ran.stderr[-3000:]
        steps.append(torch.load(tmp_path / wrapper / "weights.pt"))
    assert steps[0]["stats"]["gradient_norm"] > 1.5
    for name, value in steps[0]["weights"].items():
        torch.testing.assert_close(steps[1]["weights"][name].float(), value, atol=1e-5, rtol=0, msg=name)


def test_the_step_moves_the_weights(alone: dict) -> None:
    """Or the comparison above would compare nothing."""
    moved = [name for name, value in alone["weights"].items() if (value - alone["before"][name]).abs().max() > 1e-3]
    assert "base_model.transformer.h.2.mlp.c_fc.weight" in moved and "v_head.2.weight" in moved
    assert not [name for name in moved if name.startswith(("frozen_head", "base_model.transformer.h.0."))]


@pytest.fixture(scope="module", params=[*WRAPPERS, "zero2-bf16"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> Path:
    """The output of a short run of `trlx.train`."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    ran = launch(request.param, "train", output, tokenizer_folder)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return output


def test_ranks_roll_out_different_prompts_and_rank_0_alone_scores_them(finished: Path) -> None:
    first, second = (json.loads((finished / f"run_{rank}.json").read_text()) for rank in range(2))
    assert first["world"] == second["world"] == 2
    assert second["calls"] == []
    sizes = [len(call) for call in first["calls"]]
    # evaluation at the start and at the end over all 5 prompts; two chunks of 8 prompts from each of two ranks
    assert sizes == [5, 16, 16, 5]
    rolled_out = [tag for call in first["calls"][1:3] for tag in call]
    assert len(set(rolled_out)) == 32  # of 40 prompts, none twice
    assert sorted(first["calls"][0]) == [0, 1, 2, 3, 4]
    (folder,) = (finished / "rollouts").glob("run-*")
    parts = [(folder / f"epoch-00000-rank-{rank}.jsonl").read_text().splitlines() for rank in range(2)]
    prompts = [[json.loads(line)["prompt"] for line in part] for part in parts]
    assert [len(part) for part in prompts] == [16, 16] and not set(prompts[0]) & set(prompts[1])
    # the scores of each rank are those of its own outputs
    for part in parts:
        for line in map(json.loads, part):
            assert line["score"] == min(float(len(line["output"])), 10.0)


def test_metrics_are_written_once_and_start_at_ratio_1(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "logs" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "ratio" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    in_16_bit = (finished.parent / "run.yaml").read_text().count("bf16")
    assert steps[0]["policy/log_ratio_gap"] <= (5e-2 if in_16_bit else 1e-5)
    assert abs(next(line for line in lines if "policy/kl" in line)["policy/kl"]) <= 1e-5


def test_the_exported_model_is_whole(finished: Path) -> None:
    (checkpoint,) = finished.glob("checkpoint_*")
    for name in ("hf_model", "hf_model_ema"):
        model, info = AutoModelForCausalLM.from_pretrained(checkpoint / name, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        weight = model.transformer.h[-1].mlp.c_fc.weight  # of the master weights, in 16-bit training too
        assert weight.dtype == torch.float32 and not torch.equal(weight.bfloat16().float(), weight)
    assert {path.name for path in checkpoint.glob("r*_?.p*")} >= {"random_states_0.pkl", "random_states_1.pkl"}


def test_the_documented_zero_to_fp32_line_gives_the_exported_weights(finished: Path) -> None:
    best = finished / "best_checkpoint"
    if not (best / "zero_to_fp32.py").exists():
        assert not list(best.glob("**/*model_states.pt")), "shards without the script that joins them"
        pytest.skip("written without DeepSpeed: there are no shards to join")
    shards = "best_checkpoint/best_checkpoint"
    ran = subprocess.run(
        [sys.executable, "best_checkpoint/zero_to_fp32.py", shards, f"{shards}/pytorch_model.bin"],
        cwd=finished,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    exported = AutoModelForCausalLM.from_pretrained(best / "hf_model")
    joined = AutoModelForCausalLM.from_config(exported.config)
    joined.load_state_dict(torch.load(best / "best_checkpoint" / "pytorch_model.bin", weights_only=True))
    expected = exported.state_dict()
    for name, value in joined.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("mode", ["failing", "failing-evaluation"])
def test_a_failing_reward_function_ends_every_rank(tmp_path: Path, tokenizer_folder: str, mode: str) -> None:
    start = time.monotonic()
    ran = launch("ddp", mode, tmp_path / "run", tokenizer_folder, timeout=180)
    assert ran.returncode != 0
    # every rank says what happened, with the traceback of the function itself
    assert ran.stderr.count("a function of yours failed on the main rank") >= 2
    assert ran.stderr.count("in reward_fn") >= 2 and "KeyError: 'the judge is away'" in ran.stderr
    assert time.monotonic() - start < 120


@pytest.mark.parametrize("wrapper", [*WRAPPERS, "zero2-bf16"])
def test_ranks_that_over_optimise_stop_and_go_back_together(
    tmp_path: Path, tokenizer_folder: str, wrapper: str
) -> None:
    ran = launch(wrapper, "parting", tmp_path / "run", tokenizer_folder)
    assert ran.returncode == 0, ran.stderr[-3000:]
    first, second = (json.loads((tmp_path / "run" / f"parting_{rank}.json").read_text()) for rank in range(2))
    assert first["steps"] == second["steps"] == 3  # best at 1, below at 2 and 3
    assert first["total"] == second["total"]
    assert (first["calls"], second["calls"]) == (4, 0)
    assert ran.stderr.count("over-optimisation at step 3") == 1
    export, best, last = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "run" / name).state_dict()
        for name in ("export", "best_heldout_checkpoint/hf_model", "checkpoint_3/hf_model")
    )
    assert all(torch.equal(export[name], value) for name, value in best.items())
    assert any(not torch.equal(export[name], value) for name, value in last.items())
