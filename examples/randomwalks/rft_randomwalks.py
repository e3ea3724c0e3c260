"""Rejection fine-tuning on the random walks: the policy is trained on the best of the walks it takes from each node.

python examples/randomwalks/rft_randomwalks.py
python examples/randomwalks/rft_randomwalks.py '{"train.seed": 1001}'
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
    SchedulerConfig,
    TokenizerConfig,
    TrainConfig,
    TRLConfig,
)
from trlx.trainer.accelerate_rft_trainer import RFTConfig

default_config = TRLConfig(
    train=TrainConfig(
        seq_length=11,
        epochs=100,
        total_steps=120,
        batch_size=100,
        checkpoint_interval=10000,
        eval_interval=20,
        pipeline="PromptPipeline",
        trainer="AccelerateRFTTrainer",
        checkpoint_dir=str(RUNS / "rft"),
        tracker=None,
        save_best=False,
        resume_interval=0,
    ),
    model=ModelConfig(model_path="", num_layers_unfrozen=-1),  # filled by `main` with the cloned start
    tokenizer=TokenizerConfig(tokenizer_path=""),
    optimizer=OptimizerConfig(
        name="adamw", kwargs={"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1.0e-8, "weight_decay": 0.0}
    ),
    scheduler=SchedulerConfig(name="constant"),
    method=RFTConfig(
        name="RFTConfig",
        n_generations_per_prompt=100,
        start_percentile=0.7,
        end_percentile=0.95,
        n_improve_steps=2,
        gen_kwargs={"max_new_tokens": 9, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "do_sample": True},
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
