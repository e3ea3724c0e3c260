"""A `.conf` file as options of our stage and of the Ray job that runs it: each key honoured, or refused by name.

What a file does not say is in `configs/instruct/`, on top of which its options come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from transformers import SchedulerType

from launch.conf.keys import Loading, ModelConf, ModelGeneral, PPOConf, PPOGeneral, PPOTraining
from launch.conf.rows import data_options, iterations
from launch.conf.workers import Options, job_options, require_positive, said
from launch.ray_jobs.options import StageName
from trlx.utils.errors import BadKey, UserError, nearest
from trlx.utils.optimizers import get_optimizer_class
from trlx.utils.ranges import NOT_NEGATIVE, require_ranges
from trlx.utils.settings_file import SettingsFile
from trlx.utils.strict import build, show

Kind = Literal["finetune", "reward", "ppo"]
STAGES: dict[Kind, StageName] = {"finetune": "sft", "reward": "reward_model", "ppo": "ppo"}
SECTIONS = ("General", "Dataset", "Training")
WITHIN_LORA = "LoRA is there for PPO alone (--model.peft_config)"


@dataclass(frozen=True)
class Translation:
    """What a `.conf` file amounts to.

    Args:
        stage: that it starts. options: of the stage, dotted name → value.
        job: of the Ray job, name of `RayOptions` → value.
        notes: a line on each key that was read and needs nothing.
        passes: over PPO's prompts, which are counted when all options are known; None where train.epochs is said.
    """

    stage: StageName
    options: Options
    job: Options
    notes: list[str] = field(default_factory=list)
    passes: float | None = None

    def command_line(self) -> list[str]:
        """The stage's options as it is given them."""
        return [f"--{name}={_spelt(value)}" for name, value in self.options.items()]


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def translate(kind: Kind, file: SettingsFile) -> Translation:
    """Options for what a file says.

    Raises: UserError naming the file, the line and the key that cannot be meant here, and what to write instead.
    """
    try:
        for name in SECTIONS:
            if not isinstance(file.values.get(name), dict):
                raise BadKey(name, f"no section '{name}': a .conf file has {', '.join(SECTIONS)}, each a dict")
        return _ppo(file) if kind == "ppo" else _model(kind, file)
    except UserError as error:
        raise file.refusal(error) from error


def _model(kind: Kind, file: SettingsFile) -> Translation:
    conf = build(ModelConf, file.values)
    general, training = conf.General, conf.Training
    _refuse_empty(conf)
    _refuse_general(general)
    if training.optimizer is not None and training.optimizer.lower() not in ("adamw", "adamw_torch"):
        raise BadKey("Training.optimizer", f"'Training.optimizer' must be AdamW here, not {show(training.optimizer)}")
    schedules = [one.value for one in SchedulerType]
    if training.lr_scheduler is not None and training.lr_scheduler not in schedules:
        near = nearest(training.lr_scheduler, schedules)
        raise BadKey("Training.lr_scheduler", f"unknown 'Training.lr_scheduler' {show(training.lr_scheduler)}{near}")
    require_positive(training, ("batch_size", "epochs", "learning_rate"))
    require_ranges(training, {"weight_decay": NOT_NEGATIVE}, "Training.")
    options = {
        "model": general.base_model,
        "root": general.output_dir,
        "out": general.checkpoint_dir,
        "batch_size": training.batch_size,
        "eval_batch_size": training.batch_size,
        "epochs": training.epochs,
        "learning_rate": training.learning_rate,
        "lr_scheduler": training.lr_scheduler,
        "weight_decay": training.weight_decay,
    }
    notes = ["General.gpt_base_model: prompts are written alike for every model"] if general.gpt_base_model else []
    return Translation(
        STAGES[kind], said(options) | data_options(conf.Dataset), job_options(training, general.output_dir), notes
    )


def _ppo(file: SettingsFile) -> Translation:
    conf = build(PPOConf, file.values)
    general, training = conf.General, conf.Training
    _refuse_empty(conf)
    _refuse_loading(general.config)
    policy = _one_of(general, "model_pretrain", "model_name")
    reward_model = _one_of(general, "rm_pretrain", "rm_name")
    _refuse_ppo_training(training)
    logs = None if general.output_dir is None else str(Path(general.output_dir) / "ppo")
    size = training.experience_batch_size
    options = {
        "model.model_path": policy,
        "tokenizer.tokenizer_path": policy,
        "reward_model": reward_model,
        "root": general.output_dir,
        "train.logging_dir": logs,
        "train.checkpoint_dir": general.checkpoint_dir,
        "optimizer.name": None if training.optimizer is None else training.optimizer.lower(),
        "optimizer.kwargs.lr": training.learning_rate,
        "optimizer.kwargs.weight_decay": training.weight_decay,
        "method.num_rollouts": size,
        "method.chunk_size": size,
        "train.batch_size": size,
        "train.epochs": iterations(training),
        "method.init_kl_coef": training.kl_coeff,
    }
    notes = [
        f"General.{name}: {given} is started from, whose folder says what kind of model it is"
        for name, given in (("model_name", general.model_pretrain), ("rm_name", general.rm_pretrain))
        if given is not None and getattr(general, name) is not None
    ]
    job = job_options(training, general.output_dir)
    return Translation("ppo", said(options) | data_options(conf.Dataset), job, notes, training.epochs)


def _refuse_ppo_training(training: PPOTraining) -> None:
    require_positive(training, ("experience_batch_size", "epochs", "training_iteration", "learning_rate"))
    require_ranges(training, dict.fromkeys(("weight_decay", "kl_coeff"), NOT_NEGATIVE), "Training.")
    instead = {
        "batch_size": "experience_batch_size counts responses; --train.batch_size N makes smaller steps of them",
        "lr_scheduler": "the rate stays as it is; --scheduler.name and --scheduler.kwargs change that",
    }
    for name, why in instead.items():
        if getattr(training, name) is not None:
            raise BadKey(f"Training.{name}", f"'Training.{name}' is not of PPO: {why}: remove the key")
    if training.optimizer is not None:
        try:
            get_optimizer_class(training.optimizer)
        except UserError as error:
            raise BadKey("Training.optimizer", f"'Training.optimizer': {error}") from error


def _one_of(general: PPOGeneral, trained: str, base: str) -> str:
    found = getattr(general, trained) or getattr(general, base)
    if not found:
        raise BadKey(
            f"General.{base}", f"no model: set 'General.{trained}' to a trained one's folder, or 'General.{base}'"
        )
    return str(found)


def _refuse_empty(conf: ModelConf | PPOConf) -> None:
    """Raises: BadKey for a model, file or folder whose name is empty."""
    for section, values in (("General", conf.General), ("Dataset", conf.Dataset)):
        for one in fields(values):
            value = getattr(values, one.name)
            if isinstance(value, str) and not value.strip():
                key, none = f"{section}.{one.name}", ", or None" if one.default is None else ""
                raise BadKey(key, f"'{key}' is empty: write a name{none}")


def _refuse_general(general: ModelGeneral) -> None:
    _refuse_loading(general.config)
    if general.lora_config:
        raise BadKey(
            "General.lora_config",
            f"'General.lora_config' is not of this stage, which trains all weights; {WITHIN_LORA}: write None",
        )


def _refuse_loading(config: Loading | None) -> None:
    if config is not None and config.trust_remote_code:
        raise BadKey(
            "General.config.trust_remote_code",
            "'General.config.trust_remote_code' would run code that comes with a model, which no stage here does: "
            "write False, and take a model of transformers' own classes",
        )
    if config is not None and config.use_auth_token not in (None, False):
        raise BadKey(
            "General.config.use_auth_token",
            "'General.config.use_auth_token': no token is read from a file: write None and log in with `hf auth "
            "login`, or set HF_TOKEN",
        )
