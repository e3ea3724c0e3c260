"""`train`: one call from data and a configuration to a trained model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trlx.data import default_configs
from trlx.data.configs import TRLConfig
from trlx.data.limits import require_limits, require_ptx
from trlx.trainer import BaseRLTrainer, get_trainer
from trlx.utils.errors import UserError
from trlx.utils.loading import get_pipeline

Prompts = Sequence[str] | Sequence[Mapping[str, Any]]


def train(
    model_path: str | None = None,
    reward_fn: Callable[..., Sequence[Any]] | None = None,
    dataset: tuple[Sequence[Any], Sequence[float]] | None = None,
    samples: Sequence[Any] | None = None,
    rewards: Sequence[float] | None = None,
    prompts: Prompts | None = None,
    eval_prompts: Prompts | None = None,
    metric_fn: Callable[..., Mapping[str, Any]] | None = None,
    config: TRLConfig | None = None,
    stop_sequences: Sequence[str] | None = (),
    ptx_texts: Sequence[str] | None = None,
) -> BaseRLTrainer:
    """Train a model: on a reward function (PPO, RFT), on samples with rewards (ILQL), or on samples (SFT).

    Args:
        model_path: replaces `config.model.model_path`.
        reward_fn: called as reward_fn(samples=, prompts=, outputs=, tokenizer=, **metadata) with lists of texts, once
            for the responses of all ranks, on the main rank; returns for each sample a number, or for each a list of
            numbers, one a response token. An output that ended carries the end-of-sequence text.
        dataset: (samples, rewards); the older way to give both.
        samples: texts, or dialogues [prompt, output, prompt, output, ...], of which the outputs are learned.
        rewards: one number a sample.
        prompts: texts, or dicts with "prompt" and further keys, which come back as the metadata lists.
        eval_prompts: the same, for evaluation; a batch of `prompts`, or of empty ones, by default.
        metric_fn: called as metric_fn(samples=, prompts=, outputs=, **metadata); returns {name: list or number}.
        config: the run's configuration; it is copied, never changed. None takes the default of the method that the
            other arguments ask for.
        stop_sequences: texts that end a response; outputs are shown up to there.
        ptx_texts: PPO only: plain texts whose likelihood is learned beside the reward, with weight `method.ptx_coef`.

    Returns: the trainer, after training.
    Raises: UserError (a ValueError) when the configuration or the data cannot work.
    """
    if dataset is not None:
        warnings.warn("trlx.train(dataset=...) is deprecated: give samples= and rewards=", stacklevel=2)
        samples, rewards = dataset
    if reward_fn is None and samples is None:
        raise UserError("trlx.train needs reward_fn= (to train online) or samples= (to train on what there is)")
    if config is None:
        config = _default_config(reward_fn is not None, rewards is not None)
    if model_path is not None:
        config = config.evolve(model={"model_path": model_path})
    require_limits(config)
    require_ptx(config, there=ptx_texts is not None)
    make_pipeline, length = get_pipeline(config.train.pipeline), max_prompt_length(config)
    trainer = get_trainer(config.train.trainer)(
        config=config,
        reward_fn=reward_fn,
        metric_fn=metric_fn,
        stop_sequences=_texts(stop_sequences),
        **config.train.trainer_kwargs,
    )
    seq2seq = config.model.model_arch_type == "seq2seq"
    starts = [trainer.tokenizer.bos_token or trainer.tokenizer.eos_token] * global_batch(config)
    if reward_fn is not None:
        prompts = starts if prompts is None else prompts
        eval_prompts = prompts[: len(starts)] if eval_prompts is None else eval_prompts
        if ptx_texts is not None:
            trainer.add_ptx_texts(ptx_texts)
        trainer.add_prompt_pipeline(make_pipeline(prompts, length, trainer.tokenizer, add_special_tokens=seq2seq))
    else:
        _check_samples(samples, rewards)
        eval_prompts = starts if eval_prompts is None else eval_prompts
        given = (samples,) if rewards is None else (samples, rewards)
        trainer.make_experience(*given, config.train.seq_length)
    trainer.add_eval_pipeline(make_pipeline(eval_prompts, length, trainer.tokenizer, add_special_tokens=seq2seq))
    if config.train.resume_from_checkpoint:
        trainer.resume(config.train.resume_from_checkpoint)
    trainer.learn()
    return trainer


def _default_config(online: bool, with_rewards: bool) -> TRLConfig:
    make = default_configs.default_sft_config
    if online or with_rewards:
        make = default_configs.default_ppo_config if online else default_configs.default_ilql_config
    warnings.warn(f"no config was given: taking {make.__name__}()", stacklevel=3)
    return make()


def _texts(stop_sequences: Sequence[str] | None) -> list[str]:
    return [stop_sequences] if isinstance(stop_sequences, str) else list(stop_sequences or ())


def _check_samples(samples: Sequence[Any] | None, rewards: Sequence[float] | None) -> None:
    if not samples:
        raise UserError("trlx.train got an empty samples=: give at least one sample")
    if rewards is not None and len(samples) != len(rewards):
        raise UserError(f"trlx.train got {len(samples)} samples= but {len(rewards)} rewards=: give one reward a sample")


def max_prompt_length(config: TRLConfig) -> int:
    """Tokens left for a prompt beside the longest response. Raises: UserError when there are none."""
    longest = 0
    for name in ("gen_kwargs", "gen_experience_kwargs"):
        options: dict[str, Any] | None = getattr(config.method, name, None)
        if options is None:
            continue
        if "max_new_tokens" not in options:
            raise UserError(f"method.{name} must have max_new_tokens: it sets how many of seq_length prompts may have")
        value = options["max_new_tokens"]
        longest = max(longest, *value) if isinstance(value, (list, tuple)) else max(longest, value)
    if config.train.seq_length <= longest:
        raise UserError(f"train.seq_length ({config.train.seq_length}) must exceed max_new_tokens ({longest})")
    return config.train.seq_length - longest


def global_batch(config: TRLConfig) -> int:
    """Samples of an optimizer step, on all ranks."""
    return config.train.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
