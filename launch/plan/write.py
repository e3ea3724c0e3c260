"""A proposal as files and options that the stages read.

Written are `accelerate.yaml` (PPO), `ds_config_sft.json` and `ds_config_reward_model.json` where those stages need
DeepSpeed, and `plan.json` with everything. Left out: hostfiles of several machines.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from launch.plan.job import Job
from launch.plan.memory import SMALL_BUCKET, Setting
from launch.plan.options import PlanOptions
from launch.plan.settings import Choice
from trlx.utils.disk import require_writable, writing
from trlx.utils.errors import UserError
from trlx.utils.files import write_json, write_text

ACCELERATE, DEEPSPEED, PLAN = "accelerate.yaml", "ds_config_{}.json", "plan.json"
SCRIPTS = {
    "sft": "sft/train_gptneo_summarize.py",
    "reward_model": "reward_model/train_reward_model_gptneo.py",
    "ppo": "trlx_gptneo_text_summarization.py",
    "evaluation": "trlx_inference_gptneo.py",
}
# The stage's option for one of the plan's; given where it is not the default, which is the same on both sides.
SAME: dict[str, dict[str, str]] = {
    "sft": {"policy": "--model", "max_length": "--max_length", "response": "--max_new_tokens"},
    "reward_model": {"reward": "--model", "max_length": "--max_length", "frozen_fraction": "--frozen_fraction"},
    "ppo": {
        "max_length": "--train.seq_length",
        "response": "--method.gen_kwargs.max_new_tokens",
        "ppo_epochs": "--method.ppo_epochs",
    },
    "evaluation": {"max_length": "--max_length", "response": "--max_new_tokens"},
}


def accelerate_config(setting: Setting) -> dict[str, Any]:
    """What `accelerate launch --config_file` reads."""
    config: dict[str, Any] = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "DEEPSPEED"}
    if setting.zero:
        where = "cpu" if setting.offload else "none"
        config["deepspeed_config"] = {
            "zero_stage": setting.zero,
            "offload_optimizer_device": where,
            "offload_param_device": where if setting.zero == 3 else "none",
            "zero3_init_flag": False,
        }
    else:  # accelerate's own MULTI_CPU starts one process
        config["distributed_type"] = "NO" if setting.ranks == 1 else "MULTI_GPU"
    return config | {
        "mixed_precision": "no" if setting.precision == "fp32" else setting.precision,
        "machine_rank": 0,
        "num_machines": 1,
        "num_processes": setting.ranks,
        "main_training_function": "main",
        "rdzv_backend": "static",
        "same_network": True,
        "use_cpu": not setting.gpu,
    }


def deepspeed_config(setting: Setting) -> dict[str, Any]:
    """What the Trainer's stages read; "auto" is filled in from their options."""
    zero: dict[str, Any] = {
        "stage": setting.zero,
        "allgather_bucket_size": SMALL_BUCKET,
        "reduce_bucket_size": SMALL_BUCKET,
        "overlap_comm": False,
        "contiguous_gradients": True,
    }
    if setting.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": setting.gpu}
        if setting.zero == 3:
            zero["offload_param"] = dict(zero["offload_optimizer"])
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        **dict.fromkeys(auto, "auto"),
        "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000},
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
    }


def command_of(stage: str, job: Job, setting: Setting, folder: str) -> str:
    """The line that starts a stage so; files are looked for in `folder`."""
    return " ".join([_start(stage, job, setting, folder), *_planned(stage, job.options)])


def _planned(stage: str, options: PlanOptions) -> Iterator[str]:
    default = PlanOptions()
    for name, option in SAME[stage].items():
        if getattr(options, name) != getattr(default, name):
            yield f"{option} {shlex.quote(str(getattr(options, name)))}"
    if stage == "ppo" and options.critic == "reward":
        yield "--model.critic_path {root}/ckpts/reward_model"


def _start(stage: str, job: Job, setting: Setting, folder: str) -> str:
    options, script = job.options, SCRIPTS[stage]
    if stage == "evaluation":
        return f"python {script} --batch_size {setting.microbatch} --reward_batch_size {options.reward_batch}"
    checkpointing = str(setting.checkpointing).lower()
    if stage == "ppo":
        return (
            f"accelerate launch --config_file {folder}/{ACCELERATE} {script} --train.batch_size {options.ppo_batch} "
            f"--train.minibatch_size {setting.microbatch} --train.gradient_checkpointing {checkpointing} "
            f"--model.num_layers_unfrozen {options.num_layers_unfrozen} --method.chunk_size {options.chunk} "
            f"--method.num_rollouts {options.rollouts}"
        )
    if setting.zero:
        start, file = f"deepspeed --num_accelerators {setting.ranks} {script}", f"{folder}/{DEEPSPEED.format(stage)}"
    else:
        start, file = f"torchrun --nproc_per_node {setting.ranks} {script}", "null"
    if setting.ranks == 1 and not setting.zero:
        start = f"python {script}"
    return (
        f"{start} --deepspeed {file} --precision {setting.precision} --batch_size {setting.microbatch} "
        f"--gradient_accumulation {setting.accumulation} --gradient_checkpointing {checkpointing}"
    )


def check_folder(folder: str) -> None:
    """Before minutes of counting. Raises: UserError where `write_plan` could not write, or would overwrite files that
    are no plan's."""
    where = Path(folder)
    there = next(path for path in (where.absolute(), *where.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--out {folder}: {there} is a file: name a folder")
    try:
        require_writable(where, "--out")
    except OSError as error:
        raise UserError(f"--out {folder}: cannot write there ({error.strerror}): name another folder") from error
    if not (where / PLAN).exists():
        for path in [where / ACCELERATE, *where.glob(DEEPSPEED.format("*"))]:
            if path.exists():
                raise UserError(f"{path}: there already, and no plan wrote it: name another folder (--out)")


def write_plan(folder: str, job: Job, chosen: dict[str, Choice]) -> list[Path]:
    """Write the files of the proposals; returns their paths. Raises: UserError when the folder cannot be written."""
    where = Path(folder)
    with writing(where):
        where.mkdir(parents=True, exist_ok=True)
        written = []
        for stage, choice in chosen.items():
            setting = choice.setting
            line = command_of(stage, job, setting, folder)
            if stage == "ppo":
                text = f"# {line}\n" + yaml.safe_dump(accelerate_config(setting), sort_keys=False)
                write_text(where / ACCELERATE, text)
                written.append(where / ACCELERATE)
            elif stage != "evaluation" and setting.zero:
                path = where / DEEPSPEED.format(stage)
                write_json(path, deepspeed_config(setting))
                written.append(path)
        write_json(where / PLAN, summary(job, chosen, folder))
    return [*written, where / PLAN]


def summary(job: Job, chosen: dict[str, Choice], folder: str) -> dict[str, Any]:
    """The proposals for machines to read; bytes and seconds."""
    stages = {
        stage: {
            "setting": vars(choice.setting),
            "seconds_per_1000_samples": choice.seconds,
            "host_bytes": choice.memory.host,
            "phases": {phase.name: phase.parts for phase in choice.memory.phases},
            "command": command_of(stage, job, choice.setting, folder),
        }
        for stage, choice in chosen.items()
    }
    whole: dict[str, Any] = json.loads(json.dumps({"options": vars(job.options), "stages": stages}))
    return whole
