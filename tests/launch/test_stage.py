"""How a stage settles on precision and DeepSpeed, and how it evaluates, resumes and publishes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_stage import REPO, tiny_base
from transformers import AutoModelForCausalLM
from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

from launch import local, stage_deepspeed
from launch.stage import (
    Stage,
    StageOptions,
    begin_stage,
    check_options,
    publish_model,
    settle_precision,
    write_model,
)
from launch.stage_deepspeed import settle_deepspeed
from launch.stage_trainer import joined
from trlx.trainer.layout import LAYOUT_FILE, layout
from trlx.utils.errors import UserError
from trlx.utils.files import write_json
from trlx.utils.manifest import write_manifest
from trlx.utils.metrics import MetricsWriter, read_metrics
from trlx.utils.pretrained import load_model, load_tokenizer

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")


def deepspeed_file(folder: Path, **zero: Any) -> str:
    path = folder / "ds.json"
    path.write_text(json.dumps({"zero_optimization": zero}))
    return str(path)


@NO_GPU
def test_fp16_without_a_gpu_is_fp32_and_said() -> None:
    assert settle_precision("fp16")[0] == "fp32" and "fp32" in str(settle_precision("fp16")[1])
    assert settle_precision("bf16") == ("bf16", None)


def test_deepspeed_needs_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    config, note = settle_deepspeed(deepspeed_file(tmp_path, stage=2))
    assert config is None and "launcher" in str(note)


def test_deepspeed_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    monkeypatch.setattr(local.util, "find_spec", lambda name: object())
    config, note = settle_deepspeed(deepspeed_file(tmp_path, stage=2))
    assert config is None and "compiler" in str(note)


def test_deepspeed_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(local.util, "find_spec", lambda name: None)
    config, note = settle_deepspeed(deepspeed_file(tmp_path, stage=2))
    assert config is None and "not installed" in str(note)


@NO_GPU
def test_offload_is_taken_out_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_deepspeed, "_lacks", lambda: None)
    config, note = settle_deepspeed(deepspeed_file(tmp_path, stage=2, offload_optimizer={"device": "cpu"}))
    assert config == {"zero_optimization": {"stage": 2}} and "offload" in str(note)


def test_zero_3_gathers_the_model_for_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_deepspeed, "_lacks", lambda: None)
    config, _ = settle_deepspeed(deepspeed_file(tmp_path, stage=3))
    assert config == {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}}


def test_models_are_loaded_whole_whatever_transformers_was_told(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    told = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})
    assert is_deepspeed_zero3_enabled() and told.is_zero3()
    stage_deepspeed.load_models_whole()
    assert not is_deepspeed_zero3_enabled()


@pytest.mark.parametrize("name", ["sft", "reward_model", "zero3"])
def test_the_files_that_come_with_it_are_what_deepspeed_knows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    monkeypatch.setattr(stage_deepspeed, "_lacks", lambda: None)
    config, _ = settle_deepspeed(str(REPO / "configs" / f"ds_config_{name}.json"))
    assert config is not None
    zero = DeepSpeedZeroConfig(**config["zero_optimization"])  # refuses keys that it does not know
    assert int(zero.stage) == (3 if name == "zero3" else 2)
    # settled by the stages' options, so that one file serves both
    settled = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    assert {config[key] for key in settled} == {"auto"}
    assert config["fp16"]["enabled"] == config["bf16"]["enabled"] == "auto"


def test_deepspeed_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_deepspeed, "_lacks", lambda: None)
    with pytest.raises(UserError, match="whose stage is 0, 1, 2 or 3"):
        settle_deepspeed(deepspeed_file(tmp_path, stage=4))
    with pytest.raises(UserError, match="absent"):
        settle_deepspeed(str(tmp_path / "absent.json"))
    (tmp_path / "bad.json").write_text('{\n"a": }')
    with pytest.raises(UserError, match="line 2"):
        settle_deepspeed(str(tmp_path / "bad.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="no JSON object"):
        settle_deepspeed(str(tmp_path / "list.json"))


@pytest.mark.parametrize(
    "name, value", [("batch_size", 0), ("epochs", 0.0), ("learning_rate", -1.0), ("eval_steps", 0)]
)
def test_numbers_that_cannot_be_meant(name: str, value: float) -> None:
    options = StageOptions()
    setattr(options, name, value)
    with pytest.raises(UserError, match=f"--{name}"):
        check_options(options, ["loss"])


def test_the_best_metric_must_be_measured() -> None:
    with pytest.raises(UserError, match="did you mean 'eval_rouge1'"):
        check_options(StageOptions(best_metric="eval_rogue1"), ["loss", "rouge1"])


def test_shares_of_ranks_are_weighed_by_what_they_counted() -> None:
    shares = [{"loss": (3.0, 1.0), "gold": (0.0, 0.0)}, {"loss": (1.0, 3.0)}]
    assert joined(shares) == {"loss": 1.0}


def test_logged_lines_of_steps_to_be_repeated_are_dropped(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "checkpoint-4").mkdir(parents=True)
    write_manifest(out / "checkpoint-4")
    (out / "run.json").write_text("{}")
    for step in (2, 4, 6):
        MetricsWriter(out).write({"loss": 1.0}, step)
    base = tiny_base(tmp_path / "base")
    stage = begin_stage("test", StageOptions(model=str(base), precision="fp32", resume=True), out, ["loss"])
    assert stage.checkpoint == out / "checkpoint-4"
    assert [line["step"] for line in read_metrics(out)] == [2, 4, 6]  # nothing is touched before the data are read
    stage.take_output(load_model(AutoModelForCausalLM, base)[0])
    assert [line["step"] for line in read_metrics(out)] == [2, 4]
    assert json.loads((out / "run.json").read_text())["resumed_from"] == "checkpoint-4"


def test_a_checkpoint_of_another_model_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    """Frozen otherwise counts too: the optimizer's state is of the weights that train."""
    base = tiny_base(tmp_path / "base")
    out, checkpoint = tmp_path / "out", tmp_path / "out" / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    model = load_model(AutoModelForCausalLM, base)[0]
    write_json(checkpoint / LAYOUT_FILE, layout(model))
    write_manifest(checkpoint)
    MetricsWriter(out).write({"loss": 1.0}, 9)
    (out / "run.json").write_text("{}")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    options = StageOptions(
        str(tmp_path), str(out), resume=True, model=str(base), eval_steps=1, save_steps=1, preflight=False
    )
    stage = begin_stage("sft", options, out, ["loss"])
    model.lm_head.requires_grad_(False)
    with pytest.raises(UserError, match=r"checkpoint-4 is of another model: .* trained there and .* frozen here"):
        stage.take_output(model)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_published_model_is_float32_and_loads_as_it_was(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    model, _ = load_model(AutoModelForCausalLM, base)
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.bfloat16()  # as DeepSpeed leaves the module; the masters are in `weights`
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("an older model")
    write_model(out / ".model.writing", model, weights, load_tokenizer(base))
    publish_model(Stage("test", out, args=None, checkpoint=None, options=StageOptions()), out / ".model.writing")  # type: ignore[arg-type]
    again = AutoModelForCausalLM.from_pretrained(out)
    assert again.dtype == torch.float32 and not (out / ".model.writing").exists()
    assert again.config.resid_dropout == 0.0  # the base was saved with 0.1
    for name, weight in again.named_parameters():
        assert torch.equal(weight, weights[name]), name


def test_models_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_model(AutoModelForCausalLM, tmp_path / "ckpts" / "sft")
    (tmp_path / "half").mkdir()
    with pytest.raises(UserError, match="no finished model"):
        load_tokenizer(tmp_path / "half")
