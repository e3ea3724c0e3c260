"""`train`: one call from prompts and a reward function to a trained policy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ppo_config
from trlx.pipeline import get_pipeline
from trlx.trainer import BaseRLTrainer, get_trainer
from trlx.trainer import accelerate_ppo_trainer as _registers_ppo  # noqa: F401
from trlx.utils.errors import UserError

Prompts = Sequence[str] | Sequence[Mapping[str, Any]]


def train(
    model_path: str | None = None,
    reward_fn: Callable[..., Sequence[float]] | None = None,
    dataset: Any = None,
    samples: Any = None,
    rewards: Any = None,
    prompts: Prompts | None = None,
    eval_prompts: Prompts | None = None,
    metric_fn: Callable[..., Mapping[str, Any]] | None = None,
    config: TRLConfig | None = None,
    stop_sequences: Sequence[str] = (),
) -> BaseRLTrainer:
    """Train a policy by PPO on a reward function.

    Args:
        model_path: replaces `config.model.model_path`.
        reward_fn: called as reward_fn(samples=, prompts=, outputs=, tokenizer=, **metadata) with lists of texts, once
            for the responses of all ranks, on the main rank; returns one number a sample. An output that ended carries
            the end-of-sequence text.
        dataset, samples, rewards: training on given samples is not available yet; must be None.
        prompts: texts, or dicts with "prompt" and further keys, which come back as the metadata lists.
        eval_prompts: the same, for evaluation; a batch of `prompts` by default.
        metric_fn: called as metric_fn(samples=, prompts=, outputs=, **metadata); returns {name: list or number}.
        config: the run's configuration; it is copied, never changed. None takes `default_ppo_config()`.
        stop_sequences: not available yet.

    Returns: the trainer, after training.
    Raises: UserError (a ValueError) when the configuration or the data cannot work.
    """
    if reward_fn is None or not (dataset is samples is rewards is None):
        raise UserError("trlx.train needs a reward_fn and prompts: training on given samples is not available yet")
    if config is None:
        warnings.warn("no config was given: taking default_ppo_config()", stacklevel=2)
        config = default_ppo_config()
    if model_path is not None:
        config = config.evolve(model={"model_path": model_path})
    trainer = get_trainer(config.train.trainer)(
        config=config,
        reward_fn=reward_fn,
        metric_fn=metric_fn,
        stop_sequences=list(stop_sequences),
        **config.train.trainer_kwargs,
    )
    make_pipeline, length = get_pipeline(config.train.pipeline), max_prompt_length(config)
    if prompts is None:
        prompts = [trainer.tokenizer.bos_token] * _global_batch(config)
    if eval_prompts is None:
        eval_prompts = prompts[: _global_batch(config)]
    trainer.add_prompt_pipeline(make_pipeline(prompts, length, trainer.tokenizer))
    trainer.add_eval_pipeline(make_pipeline(eval_prompts, length, trainer.tokenizer))
    if config.train.resume_from_checkpoint:
        trainer.resume(config.train.resume_from_checkpoint)
    trainer.learn()
    return trainer


def max_prompt_length(config: TRLConfig) -> int:
    """Tokens left for a prompt beside the longest response. Raises: UserError when there are none."""
    longest = 0
    for name in ("gen_kwargs", "gen_experience_kwargs"):
        options: dict[str, Any] | None = getattr(config.method, name)
        if options is not None and "max_new_tokens" not in options:
            raise UserError(f"method.{name} must have max_new_tokens: it sets how many of seq_length prompts may have")
        longest = max(longest, options["max_new_tokens"] if options is not None else 0)
    if config.train.seq_length <= longest:
        raise UserError(f"train.seq_length ({config.train.seq_length}) must exceed max_new_tokens ({longest})")
    return config.train.seq_length - longest


def _global_batch(config: TRLConfig) -> int:
    return config.train.batch_size * int(os.environ.get("WORLD_SIZE", "1"))
