"""From a configuration to the parts of a trainer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trlx.data.configs import TokenizerConfig, TrainConfig, TRLConfig
from trlx.models.adapters import add_adapters, load_adapters
from trlx.models.loading import load_language_model, load_policy_tokenizer
from trlx.trainer.tracker import Tracker
from trlx.utils.errors import UserError
from trlx.utils.pretrained import pop_dtype, require_own_tokenizer, require_positions, require_vocabulary

ARCHITECTURES = ("causal", "seq2seq")


def minibatches_of(train: TrainConfig) -> tuple[int, int]:
    """(samples of a microbatch, microbatches of an optimizer step). Raises: UserError when they do not divide."""
    size = train.minibatch_size or train.batch_size
    if train.batch_size % size:
        raise UserError(f"train.batch_size ({train.batch_size}) must be a multiple of train.minibatch_size ({size})")
    return size, train.batch_size // size


def tokenizer_of(config: TokenizerConfig) -> PreTrainedTokenizerBase:
    """The policy's tokenizer, with the separator that seq2seq samples are shown with."""
    tokenizer = load_policy_tokenizer(
        config.tokenizer_path,
        padding_side=config.padding_side,
        truncation_side=config.truncation_side,
        **config.tokenizer_extra_configs,
    )
    tokenizer.sep_token = tokenizer.sep_token or "<sep>"
    return tokenizer


def base_model_of(config: TRLConfig) -> PreTrainedModel:
    """The language model that `config.model` names, with adapters where it asks for them.

    Raises: UserError when its architecture, its length or its adapters do not fit the configuration.
    """
    model, train = config.model, config.train
    options = dict(model.model_extra_configs)
    dtype = pop_dtype(options)

    def load(source: Any) -> PreTrainedModel:
        check_arch(source, model.model_arch_type)
        return load_language_model(source, model.model_arch_type, dtype=dtype, **options)

    is_path = isinstance(model.model_path, (str, os.PathLike))
    base = load_adapters(model.model_path, load) if is_path else load(model.model_path)
    require_positions(base.config, train.seq_length, "train.seq_length")
    if train.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if model.peft_config is not None and train.gradient_checkpointing:
        base.enable_input_require_grads()
    return add_adapters(base, model.peft_config)


def check_tokenizer(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TRLConfig) -> None:
    """Refuse a tokenizer that is another model's. Raises: UserError naming both."""
    model_path, tokenizer_path = config.model.model_path, str(config.tokenizer.tokenizer_path)
    require_vocabulary(base.config, tokenizer, tokenizer_path)
    if isinstance(model_path, (str, os.PathLike)):
        require_own_tokenizer(model_path, tokenizer, tokenizer_path)


def check_arch(source: Any, arch: str) -> None:
    """Refuse a model of the other kind than `model.model_arch_type` says, before its weights are read."""
    if arch not in ARCHITECTURES:
        raise UserError(f"model.model_arch_type must be causal or seq2seq, not '{arch}'")
    if isinstance(source, PreTrainedConfig):
        config = source
    else:
        try:
            config = AutoConfig.from_pretrained(str(source), trust_remote_code=False)
        except (OSError, ValueError):
            return  # loading says what is wrong
    if bool(config.is_encoder_decoder) != (arch == "seq2seq"):
        kind = "an encoder-decoder" if config.is_encoder_decoder else "a causal model"
        other = "seq2seq" if config.is_encoder_decoder else "causal"
        raise UserError(f"model.model_arch_type is {arch} but {config.model_type} is {kind}: set it to {other}")


def tracker_of(config: TRLConfig, accelerator: Accelerator) -> Tracker:
    """Where the run's numbers go; its name is script/model/devices unless it has one."""
    train = config.train
    script = Path(sys.argv[0]).stem or "python"
    path = config.model.model_path
    model = str(path).rstrip("/").rsplit("/", 1)[-1] if isinstance(path, (str, os.PathLike)) else type(path).__name__
    options = {
        "project": train.project_name,
        "name": train.run_name or f"{script}/{model}/{accelerator.num_processes}processes",
        "entity": train.entity_name,
        "group": train.group_name,
        "tags": train.tags,
        "config": config.to_dict(),
    }
    folder = Path(train.logging_dir or Path(train.checkpoint_dir) / "logs")
    return Tracker(folder, train.tracker, accelerator.is_main_process, options)
