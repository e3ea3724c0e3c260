"""ZeRO stage 3 on two CPU ranks, with thresholds of 0, or a tiny model would stay whole and hide deadlocks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from tiny_engine import random_model
from torch.optim.lr_scheduler import ConstantLR
from transformers import AutoModelForCausalLM
from zero3_methods_worker import METHODS, run

from launch.local import free_port
from trlx.trainer.engine import Engine
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics
from trlx.utils.zero import whole

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
NOTHING_STAYS_WHOLE = {
    "stage": 3,
    "stage3_param_persistence_threshold": 0,
    "stage3_max_live_parameters": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_prefetch_bucket_size": 0,
}
Launch = Callable[..., Path]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> Launch:
    """Runs a worker on `ranks` ranks and returns the folder it wrote to."""
    pytest.importorskip("deepspeed", reason="ZeRO needs DeepSpeed")

    def run(worker: str, *arguments: str, ranks: int = 2) -> Path:
        folder = tmp_path_factory.mktemp("run")
        command = [sys.executable, "-W", "ignore"]
        if ranks > 1:
            command += ["-m", "accelerate.commands.launch", "--config_file", str(write_config(folder, ranks))]
            command += ["--main_process_port", str(free_port())]
        given = [argument.format(output=folder / "output", tokenizer=tokenizer_folder) for argument in arguments]
        ran = subprocess.run(
            [*command, str(HERE / worker), *given],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=240,
            check=False,
            cwd=REPO,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return folder / "output"

    return run


def write_config(folder: Path, ranks: int) -> Path:
    """An accelerate configuration, with the DeepSpeed one that it names beside it."""
    settings: dict[str, Any] = {"zero_optimization": NOTHING_STAYS_WHOLE}
    settings |= dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    path = folder / "accelerate.yaml"
    path.write_text(
        f"distributed_type: DEEPSPEED\nnum_processes: {ranks}\nnum_machines: 1\nmachine_rank: 0\nuse_cpu: true\n"
        f"deepspeed_config:\n  deepspeed_config_file: {folder / 'deepspeed.json'}\n  zero3_init_flag: false\n"
    )
    return path


def environment() -> dict[str, str]:
    extensions = os.environ.get("TORCH_EXTENSIONS_DIR", str(REPO / ".cache" / "torch_extensions"))
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": extensions,
        "PYTHONPATH": os.pathsep.join([str(REPO), str(HERE)]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def finished(launch: Launch) -> Path:
    """The output of two phases of a step each."""
    return launch("zero3_worker.py", "{output}", "{tokenizer}", "{{}}")


def notes(output: Path) -> list[dict[str, float]]:
    return [json.loads((output / f"notes_{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_one_step_of_two_ranks_is_one_of_one(launch: Launch) -> None:
    together = launch("two_ranks_worker.py", "steps-sharded", "{output}", "{tokenizer}")
    one = launch("two_ranks_worker.py", "steps-sharded", "{output}", "{tokenizer}", ranks=1)
    alone = torch.load(one / "weights.pt")
    both = torch.load(together / "weights.pt")
    assert both["weights"].keys() == alone["weights"].keys()
    for name, value in alone["weights"].items():
        torch.testing.assert_close(both["weights"][name], value, atol=1e-5, rtol=0, msg=name)
    for name in ("losses/total_loss", "gradient_norm", "values/mean", "values/std", "ratio"):
        assert both["stats"][name] == pytest.approx(alone["stats"][name], rel=1e-4, abs=1e-6), name
    # a step that one rank cannot take no rank takes
    for rank in range(2):
        noted = json.loads((together / f"skipping_{rank}.json").read_text())
        assert noted == {"skipped": [1.0, 0.0], "same": [True, False], "finite": True}
    # and pretraining texts add what they add on one rank, in the second step too
    both, alone = torch.load(together / "mixed.pt"), torch.load(one / "mixed.pt")
    assert both["stats"][1]["losses/ptx_loss"] == pytest.approx(alone["stats"][1]["losses/ptx_loss"], rel=1e-5)
    for name, value in alone["weights"].items():
        torch.testing.assert_close(both["weights"][name], value, atol=1e-5, rtol=0, msg=name)


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_weights_are_gathered_once_a_chunk_and_never_while_ranks_generate(finished: Path) -> None:
    for noted in notes(finished):
        assert noted["world"] == 2
        assert noted["shards"] == 0  # nothing is whole outside: the tests below test stage 3
        assert noted["generated"] > 0 and noted["fetched_while_generating"] == 0
        assert noted["gathers_in_rollouts"] == noted["chunks"] == 4
        assert noted["gathers_in_evaluations"] == noted["evaluations"] == 2


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_ranks_wrote_responses_of_unequal_length_to_unequally_many_batches(finished: Path) -> None:
    """Or the run would show nothing about deadlocks."""
    first, second = notes(finished)
    assert first["forwards"] > second["forwards"] and first["generated"] > second["generated"]


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_the_reference_stays_the_initial_policy_and_the_export_is_the_trained_one(finished: Path) -> None:
    for noted in notes(finished):
        assert noted["moved"] > 1e-2
        assert noted["reference"] <= 1e-6
        assert noted["export"] <= 1e-5
    _, info = AutoModelForCausalLM.from_pretrained(finished / "export", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    lines = [json.loads(line) for line in (finished / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert abs(next(line for line in lines if "policy/kl" in line)["policy/kl"]) <= 1e-5
    assert next(line for line in lines if "ratio" in line)["policy/log_ratio_gap"] <= 1e-5


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_a_run_that_is_resumed_ends_bit_identical(finished: Path, launch: Launch) -> None:
    given = json.dumps({"train.resume_from_checkpoint": str(finished / "checkpoint_1")}).replace("{", "{{")
    resumed = launch("zero3_worker.py", "{output}", "{tokenizer}", given.replace("}", "}}"))
    assert not (resumed / "checkpoint_1").exists() and (resumed / "checkpoint_2").exists()
    for name in ("model.safetensors", "heads.safetensors"):
        assert (resumed / "export" / name).read_bytes() == (finished / "export" / name).read_bytes(), name


def gradient_norms(output: Path) -> list[float]:
    return [line["gradient_norm"] for line in read_metrics(output / "logs") if "gradient_norm" in line]


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_sft_rft_and_ilql_learn_the_same_in_pieces_as_alone(
    launch: Launch, tmp_path: Path, tokenizer_folder: str
) -> None:
    together = launch("zero3_methods_worker.py", "{output}", "{tokenizer}")
    seen = [json.loads((together / f"methods_{rank}.json").read_text()) for rank in range(2)]
    for method in METHODS:
        alone = run(method, tmp_path, tokenizer_folder)
        assert alone["steps"] >= 2 and alone["held"] > 0
        assert [rank[method] for rank in seen] == [{"steps": alone["steps"], "world": 2, "held": 0}] * 2, method
        for file in (tmp_path / method / "export").glob("*.safetensors"):
            expected, weights = load_file(file), load_file(together / method / "export" / file.name)
            assert weights.keys() == expected.keys()
            for name, weight in expected.items():
                torch.testing.assert_close(weights[name], weight, atol=1e-5, rtol=0, msg=f"{method}: {name}")
        norms = [gradient_norms(folder / method) for folder in (tmp_path, together)]
        assert len(norms[0]) == alone["steps"] and min(norms[0]) > 0.1  # else nothing need be learned to be alike
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_only_deepspeeds_hooks_are_put_aside_and_come_back_in_their_place() -> None:
    ran: list[str] = []

    def hook(name: str, home: str) -> Any:
        def note(*_: Any) -> None:
            ran.append(name)

        note.__module__ = home
        return note

    module = torch.nn.Sequential(torch.nn.Linear(1, 1))
    module[0].register_forward_pre_hook(hook("fetch", "deepspeed.runtime.zero.parameter_offload"))
    module[0].register_forward_hook(hook("drop", "deepspeed.utils.nvtx"))
    module[0].register_forward_hook(hook("ours", "trlx.models.branches"))
    with whole(module):
        late = module[0].register_forward_pre_hook(hook("late", "trlx"))
        module(torch.ones(1, 1))
        late.remove()
    assert ran == ["late", "ours"]
    ran.clear()
    module(torch.ones(1, 1))
    assert ran == ["fetch", "drop", "ours"]


def test_adapters_are_refused() -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(random_model(), peft.LoraConfig(target_modules=["q_proj"]))
    plugin = SimpleNamespace(zero_stage=3, offload_optimizer_device="none")
    accelerator: Any = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED, state=SimpleNamespace(deepspeed_plugin=plugin)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(UserError, match=r"model\.peft_config.*stage 3.*zero_stage to 2"):
        Engine(accelerator, torch.nn.ModuleDict({"base_model": model}), optimizer, ConstantLR(optimizer), None)


@pytest.mark.parametrize("name", ["zero3", "zero3_offload"])
def test_the_configurations_are_complete(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    path = REPO / "configs" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    settings = config.deepspeed_config
    assert config.num_processes > 1 and settings["zero_stage"] == 3 and settings["zero3_init_flag"] is False
    place = "cpu" if name == "zero3_offload" else "none"
    assert settings["offload_optimizer_device"] == settings["offload_param_device"] == place
    assert f"--config_file configs/accelerate/{name}.yaml" in path.read_text(encoding="utf-8")
