"""Ready configurations to start from, with trlX's values, and every config class under one name."""

from __future__ import annotations

from typing import Any, NoReturn

from trlx.data.configs import (
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    TokenizerConfig,
    TrainConfig,
    TRLConfig,
)
from trlx.data.ilql_config import ILQLConfig
from trlx.data.method_configs import MethodConfig, PPOConfig
from trlx.data.rft_config import RFTConfig
from trlx.data.sft_config import SFTConfig
from trlx.utils.nemo import nemo_is_absent

__all__ = [
    "ILQLConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PPOConfig",
    "RFTConfig",
    "SFTConfig",
    "SchedulerConfig",
    "TRLConfig",
    "TokenizerConfig",
    "TrainConfig",
    "default_ilql_config",
    "default_nemo_1_3b_config",
    "default_nemo_2b_config",
    "default_nemo_20b_config",
    "default_ppo_config",
    "default_sft_config",
]


def default_ppo_config() -> TRLConfig:
    """PPO on a GPT-2 that has read IMDB, as trlX's default; a new object each call."""
    return _config(
        PPOConfig(
            name="PPOConfig",
            num_rollouts=128,
            chunk_size=128,
            ppo_epochs=4,
            init_kl_coef=0.001,
            target=None,
            horizon=10000,
            gamma=1.0,
            lam=0.95,
            cliprange=0.2,
            cliprange_value=0.2,
            vf_coef=1.0,
            scale_reward="ignored",
            ref_mean=None,
            ref_std=None,
            cliprange_reward=10,
            gen_kwargs={"max_new_tokens": 40, "top_k": 0, "top_p": 1.0, "do_sample": True},
        ),
        ModelConfig(model_path="lvwerra/gpt2-imdb", num_layers_unfrozen=2),
        trainer="AcceleratePPOTrainer",
        lr=3e-5,
        seq_length=1024,
        batch_size=32,
        total_steps=10000,
        checkpoint_interval=10000,
    )


def default_ilql_config() -> TRLConfig:
    """ILQL on GPT-2, as trlX's default; a new object each call."""
    return _config(
        ILQLConfig(
            name="ilqlconfig",
            tau=0.7,
            gamma=0.99,
            cql_scale=0.1,
            awac_scale=1.0,
            alpha=0.001,
            beta=0.0,
            steps_for_target_q_sync=5,
            two_qs=True,
            gen_kwargs={"max_new_tokens": 56, "top_k": 20, "beta": 1, "temperature": 1.0},
        ),
        ModelConfig(model_path="gpt2", num_layers_unfrozen=-1),
        trainer="AccelerateILQLTrainer",
        lr=5e-5,
        seq_length=64,
        batch_size=128,
        total_steps=1000,
        checkpoint_interval=1000,
    )


def default_sft_config() -> TRLConfig:
    """Supervised fine-tuning of GPT-2, as trlX's default; a new object each call."""
    return _config(
        SFTConfig(name="sftconfig", gen_kwargs={"max_new_tokens": 40, "top_k": 0, "top_p": 1.0, "do_sample": True}),
        ModelConfig(model_path="gpt2", num_layers_unfrozen=-1),
        trainer="AccelerateSFTTrainer",
        lr=1e-4,
        seq_length=1024,
        batch_size=8,
        total_steps=1000,
        checkpoint_interval=10000,
    )


def default_nemo_20b_config() -> NoReturn:
    """Raises: ImportError; NeMo is not supported."""
    raise nemo_is_absent("default_nemo_20b_config", "default_ppo_config or default_ilql_config")


def default_nemo_2b_config() -> NoReturn:
    """Raises: ImportError; NeMo is not supported."""
    raise nemo_is_absent("default_nemo_2b_config", "default_ppo_config or default_ilql_config")


def default_nemo_1_3b_config() -> NoReturn:
    """Raises: ImportError; NeMo is not supported."""
    raise nemo_is_absent("default_nemo_1_3b_config", "default_ppo_config or default_ilql_config")


def _config(method: MethodConfig, model: ModelConfig, trainer: str, lr: float, **train: Any) -> TRLConfig:
    """What the defaults share: AdamW at a rate that stays, as its cosine ends where it begins."""
    return TRLConfig(
        method=method,
        model=model,
        optimizer=OptimizerConfig(
            name="adamw", kwargs={"lr": lr, "betas": (0.9, 0.95), "eps": 1.0e-8, "weight_decay": 1.0e-6}
        ),
        scheduler=SchedulerConfig(name="cosine_annealing", kwargs={"T_max": 1e12, "eta_min": lr}),
        tokenizer=TokenizerConfig(tokenizer_path="gpt2", truncation_side="right"),
        train=TrainConfig(epochs=100, eval_interval=100, pipeline="PromptPipeline", trainer=trainer, **train),
    )
