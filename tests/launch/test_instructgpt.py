"""InstructGPT's row: its options are reachable from `train.sh`, and PPO runs with a critic of its own and with LoRA."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_stage import tiny_reward_model
from transformers import AutoModelForCausalLM

import trlx_gptneo_text_summarization as ppo_script
from evaluation.prompts import main as prompts
from launch.pipeline import machines
from launch.pipeline.driver import main as train_sh
from launch.pipeline.options import parse
from launch.pipeline.plan import make_plan
from tasks.run_folder import REPO, RunFolder
from trlx.models.adapters import read_peft_config
from trlx.utils.cli import parse_config
from trlx_gptneo_text_summarization import PPOOptions

FULL = ("--config", str(REPO / "configs" / "instructgpt" / "pipeline.yaml"))
TINY = ("--config", str(REPO / "configs" / "tiny" / "instructgpt" / "pipeline.yaml"))
LORA = "{peft_type: LORA, r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj]}"


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "devices", lambda: (2, "2 processor cores"))
    monkeypatch.setattr("launch.local.without_deepspeed", lambda: "")


def ppo_options(*arguments: str) -> PPOOptions:
    """What PPO makes of the command line that `train.sh` gives it."""
    (command,) = make_plan(parse(["sgl_gpu", *arguments])).commands("ppo")
    place = next(index for index, part in enumerate(command) if part.endswith("trlx_gptneo_text_summarization.py"))
    return parse_config(PPOOptions, "", command[place + 1 :])


@pytest.mark.parametrize("config", [FULL, TINY], ids=["full", "tiny"])
def test_the_documents_constants_are_the_configs(config: tuple[str, ...]) -> None:
    options = ppo_options(*config)
    assert options.model.critic_path == "{root}/ckpts/reward_model" and options.model.peft_config is None
    method = options.method
    assert (method.init_kl_coef, method.target, method.cliprange_reward) == (0.1, None, 5)
    assert (method.cliprange, method.cliprange_value, method.gamma, method.lam) == (0.2, 0.2, 1.0, 0.95)
    # Nothing else is done to the score, and the critic's loss has its full weight.
    assert (method.scale_reward, method.vf_coef, options.reward_relative) == (None, 1.0, False)


def test_the_options_are_reachable_from_train_sh(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ("--ppo.model.critic_path", "null", "--ppo.method.cliprange_reward", "3", "--ppo.method.init_kl_coef", "0")
    options = ppo_options(*FULL, *given, "--ppo.model.peft_config", LORA)
    assert options.model.critic_path is None
    assert (options.method.cliprange_reward, options.method.init_kl_coef) == (3, 0)
    assert read_peft_config(options.model.peft_config).r == 4
    # From a file of the pipeline's, too.
    pipeline = yaml.safe_load(Path(FULL[1]).read_text())
    pipeline["overrides"] = {"ppo": {"model.peft_config": yaml.safe_load(LORA)}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    options = ppo_options("--config", str(tmp_path / "pipeline.yaml"))
    assert read_peft_config(options.model.peft_config).target_modules == {"q_proj", "v_proj"}
    train_sh(["sgl_gpu", *FULL, "--dry_run", "--ppo.model.critic_path", "elsewhere"])
    lines = capsys.readouterr().out.splitlines()
    stages = ["sft", "reward_model", "ppo", "evaluation", "scores", "prompts"]
    assert [line for line in lines if line.startswith("# ")][1:] == [f"# {stage}" for stage in stages]
    assert lines[lines.index("# ppo") + 1].endswith("--model.critic_path elsewhere")


def test_the_lines_that_are_commented_out_are_options(tmp_path: Path) -> None:
    for config in ("instructgpt/ppo.yaml", "tiny/instructgpt/ppo.yaml"):
        text = (REPO / "configs" / config).read_text(encoding="utf-8")
        assert text.count("  # peft_config: {") == 1
        path = tmp_path / "lora.yaml"
        path.write_text(text.replace("# peft_config: {", "peft_config: {"), encoding="utf-8")
        read = read_peft_config(parse_config(PPOOptions, "", ["--config", str(path)]).model.peft_config)
        assert (read.r, read.lora_alpha, read.target_modules) == (8, 16, {"q_proj", "v_proj"})


def test_average_and_pretraining_loss_as_they_are_commented_out(tmp_path: Path) -> None:
    text = (REPO / "configs" / "instructgpt" / "ppo.yaml").read_text(encoding="utf-8")
    for name in ("ema_decay", "ptx_data", "ptx_limit", "ptx_coef"):
        assert text.count(f"# {name}: ") == 1
        text = text.replace(f"# {name}: ", f"{name}: ")
    (tmp_path / "ppo.yaml").write_text(text, encoding="utf-8")
    options = parse_config(PPOOptions, "", ["--config", str(tmp_path / "ppo.yaml")])
    assert (options.train.ema_decay, options.method.ptx_coef) == (0.992, 27.8)
    assert (options.ptx_data, options.ptx_limit) == ("Salesforce/wikitext:wikitext-103-raw-v1", 100_000)


SMALL: dict[str, Any] = {
    "data": "{root}/data/sft",
    "preflight": False,
    "train_limit": 6,
    "eval_limit": 2,
    "reward_relative": False,
    "model": {
        "model_path": "{root}/ckpts/sft",
        "critic_path": "{root}/ckpts/reward_model",
        "num_layers_unfrozen": -1,
        "peft_config": yaml.safe_load(LORA),
    },
    "tokenizer": {"tokenizer_path": "{root}/ckpts/sft"},
    "optimizer": {"name": "adamw", "kwargs": {"lr": 1e-2}},
    "train": {
        **{"seq_length": 96, "epochs": 9, "total_steps": 2, "batch_size": 4, "eval_interval": 2, "tracker": None},
        **{"checkpoint_interval": 100, "resume_interval": 0},
    },
    "method": {
        **{"num_rollouts": 4, "chunk_size": 4, "ppo_epochs": 2, "init_kl_coef": 0.1, "target": None},
        **{"cliprange_reward": 5, "vf_coef": 1.0, "gen_kwargs": {"max_new_tokens": 6, "do_sample": True}},
    },
}


def test_lora_and_a_critic_of_its_own_from_a_config(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder.of(root)
    shutil.copytree(root / "base", run.sft)
    tiny_reward_model(root / "base", run.reward_model)
    (root / "ppo.yaml").write_text(yaml.safe_dump(SMALL))
    ppo_script.main(["--config", str(root / "ppo.yaml"), "--root", str(root)])
    # What is exported is a plain model, into which the adapters are merged: their modules have moved, nothing else.
    before = AutoModelForCausalLM.from_pretrained(run.sft).state_dict()
    last = run.ckpts / "checkpoint_2" / "hf_model"
    loaded, info = AutoModelForCausalLM.from_pretrained(last, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    moved = {name for name, value in loaded.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all("q_proj" in name or "v_proj" in name for name in moved)
    assert (last / "adapter" / "adapter_config.json").is_file()
    # The critic is the reward model, trained on.
    heads = load_file(last / "heads.safetensors")
    begun = load_file(run.reward_model / "model.safetensors")
    critic = {name.partition("model.")[2]: value for name, value in heads.items()}
    assert set(critic) >= {"score.weight"} and critic["score.weight"].shape == begun["score.weight"].shape
    assert not torch.equal(critic["score.weight"], begun["score.weight"])
    capsys.readouterr()
    asked = ("--prompt", "my cat ate the cake", "--max_prompt_tokens", "60", "--max_new_tokens", "6")
    prompts(["--root", str(root), "--models", f"sft,last={last}", *asked])
    assert "SFT, last and the reward model" in capsys.readouterr().out
