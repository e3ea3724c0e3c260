"""The repository's own rules: names that shadow nothing, YAML files that load and say how to use them."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.frontier_options import FrontierOptions
from evaluation.pair_scores import ScoresOptions
from evaluation.prompts import PromptsOptions
from launch.pipeline.options import PipelineOptions
from reward_model.gate import GateOptions
from reward_model.train_reward_model_gptneo import RewardOptions
from reward_model.train_sentiment_classifier import ClassifierOptions
from sft.train_gptneo_summarize import SftOptions
from tasks.miniature import PostsOptions
from tasks.miniature_pairs import PairsOptions
from tasks.run_folder import REPO
from trlx.utils.cli import parse_config
from trlx_gptneo_rft_summarization import RFTOptions
from trlx_gptneo_text_summarization import PPOOptions
from trlx_inference_gptneo import InferenceOptions

STAGE_OPTIONS: dict[str, type[Any]] = {
    "sft": SftOptions,
    "reward_model": RewardOptions,
    "classifier": ClassifierOptions,
    "reward_gate": GateOptions,
    "ppo": PPOOptions,
    "second_reward_model": RewardOptions,
    "biased_reward_model": RewardOptions,
    "rft": RFTOptions,
    "frontier": FrontierOptions,
    "inference": InferenceOptions,
    "scores": ScoresOptions,
    "prompts": PromptsOptions,
    "posts": PostsOptions,
    "pairs": PairsOptions,
    "pipeline": PipelineOptions,
}
YAML_FILES = sorted((REPO / "configs").rglob("*.yaml"))
ACCELERATE_CONFIGS = [path for path in YAML_FILES if "accelerate" in path.relative_to(REPO / "configs").as_posix()]
STAGE_CONFIGS = [path for path in YAML_FILES if path not in ACCELERATE_CONFIGS]
# How each starts its processes: distributed_type; with DeepSpeed, its ZeRO stage and where the optimizer's state lies.
KINDS: dict[str, tuple[Any, ...]] = {
    "default_accelerate_config.yaml": ("DEEPSPEED", 2, "none"),
    "tiny/accelerate.yaml": ("DEEPSPEED", 2, "none"),
    "accelerate/zero2_offload.yaml": ("DEEPSPEED", 2, "cpu"),
    "accelerate/zero3.yaml": ("DEEPSPEED", 3, "none"),
    "accelerate/zero3_offload.yaml": ("DEEPSPEED", 3, "cpu"),
    "accelerate/ddp.yaml": ("MULTI_GPU",),
    "accelerate/cpu.yaml": ("MULTI_GPU",),
    "accelerate/one_gpu.yaml": ("NO",),
}
DEEPSPEED_CONFIGS = sorted((REPO / "configs").rglob("*.json"))


def label(path: Path) -> str:
    return path.relative_to(REPO / "configs").as_posix()


def test_no_root_name_shadows_a_library() -> None:
    ours = {path.stem for path in REPO.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    installed = {name for name in metadata.packages_distributions() if name not in ours}
    foreign = {name for name, owners in metadata.packages_distributions().items() if set(owners) != {"summarize-rlhf"}}
    assert not ours & (set(sys.stdlib_module_names) | installed | foreign)


@pytest.mark.parametrize("path", STAGE_CONFIGS, ids=label)
def test_every_stage_config_loads_and_begins_with_its_command(path: Path) -> None:
    parse_config(STAGE_OPTIONS[path.stem], "", ["--config", str(path)])
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert header.startswith("# ") and f"--config configs/{label(path)}" in header


@pytest.mark.parametrize("name", ["sft", "reward_model", "ppo", "inference"])
def test_the_full_size_config_is_the_default(name: str) -> None:
    options = STAGE_OPTIONS[name]
    assert parse_config(options, "", ["--config", str(REPO / "configs" / f"{name}.yaml")]) == parse_config(
        options, "", []
    )


@pytest.mark.parametrize("path", ACCELERATE_CONFIGS, ids=label)
def test_every_accelerate_config_is_complete(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config: Any = load_config_from_file(str(path))
    zero = config.deepspeed_config or {}
    sharding = (zero["zero_stage"], zero["offload_optimizer_device"]) if zero else ()
    assert (config.distributed_type.value, *sharding) == KINDS[label(path)]
    assert config.num_processes >= 1
    # bfloat16 is for GPUs: on processor cores it is slower than float32, and less exact.
    assert config.use_cpu == (config.mixed_precision == "no")
    assert f"--config_file configs/{label(path)}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", DEEPSPEED_CONFIGS, ids=label)
def test_every_deepspeed_config_is_zero_2_or_says_so(path: Path) -> None:
    assert json.loads(path.read_text())["zero_optimization"]["stage"] == (3 if "zero3" in path.name else 2)


def test_every_yaml_is_one_of_these() -> None:
    sweeps = (REPO / "configs" / "sweeps").glob("*.yml")  # tests/trlx/test_sweep.py reads these
    known = {*STAGE_CONFIGS, *ACCELERATE_CONFIGS, *sweeps}
    assert {path for path in (REPO / "configs").rglob("*.y*ml")} == known
    assert all(isinstance(yaml.safe_load(path.read_text()), dict) for path in known)


def test_importing_the_engine_imports_none_of_the_extras() -> None:
    extras = ("ray", "wandb", "peft", "deepspeed", "matplotlib")
    code = (
        "import sys, trlx.trlx, trlx.sweep, trlx.trainer; trlx.trainer.get_trainer('AcceleratePPOTrainer'); "
        f"print([name for name in {extras} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stdout + result.stderr
