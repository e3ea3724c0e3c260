"""PPO on the random walks: the reward is the walk's optimality.

    python examples/randomwalks/ppo_randomwalks.py
    python examples/randomwalks/ppo_randomwalks.py '{"train.seed": 1001, "train.total_steps": 16}'

What it reaches, and in how many steps: README.md beside this file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import trlx
from examples.randomwalks import generate_random_walks
from examples.randomwalks.start import RUNS, cloned_start
from trlx.data.default_configs import (
    ModelConfig,
    OptimizerConfig,
    PPOConfig,
    SchedulerConfig,
    TokenizerConfig,
    TrainConfig,
    TRLConfig,
)

default_config = TRLConfig(
    train=TrainConfig(
        seq_length=10,
        epochs=20,
        total_steps=10000,
        batch_size=256,
        checkpoint_interval=10000,
        eval_interval=4,
        pipeline="PromptPipeline",
        trainer="AcceleratePPOTrainer",
        checkpoint_dir=str(RUNS / "ppo"),
        tracker=None,
        save_best=False,
        resume_interval=0,
    ),
    model=ModelConfig(model_path="", num_layers_unfrozen=-1),  # filled by `main` with the cloned start
    tokenizer=TokenizerConfig(tokenizer_path=""),
    optimizer=OptimizerConfig(
        name="adamw", kwargs={"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1.0e-8, "weight_decay": 1.0e-6}
    ),
    scheduler=SchedulerConfig(name="constant"),
    method=PPOConfig(
        name="PPOConfig",
        num_rollouts=256,
        chunk_size=256,
        ppo_epochs=2,
        init_kl_coef=0.0,
        target=None,
        horizon=10000,
        gamma=1.0,
        lam=0.95,
        cliprange=0.2,
        cliprange_value=0.2,
        vf_coef=1.0,
        scale_reward=None,
        ref_mean=None,
        ref_std=None,
        cliprange_reward=1.0,
        gen_kwargs={"max_new_tokens": 9, "top_k": 0, "top_p": 1.0, "do_sample": True},
    ),
)


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config = TRLConfig.update(default_config, hparams)
    metric_fn, prompts, walks, _ = generate_random_walks(seed=config.train.seed)
    start = cloned_start(walks, config.train.seed)
    return trlx.train(
        reward_fn=lambda samples, **kwargs: metric_fn(samples)["optimality"],
        prompts=prompts,
        eval_prompts=prompts * 10,  # sampled: ten walks from each node
        metric_fn=lambda samples, **kwargs: metric_fn(samples),
        config=config.evolve(model={"model_path": start}, tokenizer={"tokenizer_path": start}),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
