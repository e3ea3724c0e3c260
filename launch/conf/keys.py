"""The keys of llm-on-ray's `.conf` files, as dataclasses: what may stand in a file of each kind, and of which type.

Left out: keys of other versions of those files; they are refused by name, as every key that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Loading:
    """How a model is loaded.

    Args:
        trust_remote_code: run code that comes with a model. use_auth_token: of the hub.
    """

    trust_remote_code: bool | None = None
    use_auth_token: Any = None


@dataclass
class ModelGeneral:
    """`General` of SFT and of the reward model.

    Args:
        base_model: hub id or folder to start from. gpt_base_model: whether it is GPT's kind.
        output_dir: of logs. checkpoint_dir: where the model ends.
        config: how the model is loaded. lora_config: of an adapter.
    """

    base_model: str
    gpt_base_model: bool | None = None
    output_dir: str | None = None
    checkpoint_dir: str | None = None
    config: Loading | None = None
    lora_config: dict[str, Any] | None = None


@dataclass
class PPOGeneral:
    """`General` of PPO.

    Args:
        model_name: policy to start from where `model_pretrain`, a finished SFT model, is None.
        rm_name: reward model where `rm_pretrain`, one trained here, is None.
        output_dir: of logs. checkpoint_dir: where the policies end. config: how models are loaded.
    """

    model_name: str | None = None
    model_pretrain: str | None = None
    rm_name: str | None = None
    rm_pretrain: str | None = None
    output_dir: str | None = None
    checkpoint_dir: str | None = None
    config: Loading | None = None


@dataclass
class Dataset:
    """The rows.

    Args:
        train_file: to train on. validation_file: to evaluate on.
        validation_split_percentage: share of `train_file` to evaluate on, without a `validation_file`.
    """

    train_file: str
    validation_file: str | None = None
    validation_split_percentage: float | None = None


@dataclass
class Workers:
    """What every `Training` says of its workers.

    Args:
        optimizer: its name. learning_rate: its peak. weight_decay: its decay.
        device: CPU or GPU. accelerate_mode: how workers share a model.
        num_training_workers: how many. resources_per_worker: what each of them takes, e.g. {"CPU": 8}.
    """

    optimizer: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    device: str | None = None
    accelerate_mode: str | None = None
    num_training_workers: int | None = None
    resources_per_worker: dict[str, Any] | None = None


@dataclass
class ModelTraining(Workers):
    """`Training` of SFT and of the reward model.

    Args:
        batch_size: samples of a worker in one step. epochs: passes over the data. lr_scheduler: transformers' name.
    """

    batch_size: int | None = None
    epochs: float | None = None
    lr_scheduler: str | None = None


@dataclass
class PPOTraining(Workers):
    """`Training` of PPO.

    Args:
        experience_batch_size: responses that a worker collects before it trains.
        epochs: passes over the prompts. training_iteration: how often responses are collected, instead of epochs.
        kl_coeff: of the KL penalty. batch_size, lr_scheduler: known, to say what to write instead.
    """

    experience_batch_size: int | None = None
    epochs: float | None = None
    training_iteration: int | None = None
    kl_coeff: float | None = None
    batch_size: int | None = None
    lr_scheduler: str | None = None


@dataclass
class ModelConf:
    """A whole file of SFT or of the reward model."""

    General: ModelGeneral
    Dataset: Dataset
    Training: ModelTraining


@dataclass
class PPOConf:
    """A whole file of PPO."""

    General: PPOGeneral
    Dataset: Dataset
    Training: PPOTraining
