"""ILQL on the random walks: learns from walks at random and their optimality, and never asks for another.

    python examples/randomwalks/ilql_randomwalks.py
    python examples/randomwalks/ilql_randomwalks.py '{"train.seed": 1001}'

The walks that it writes are judged for several β, the weight of the learned advantage in what it samples from.
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
from trlx.models.modeling_ilql import ILQLConfig

default_config = TRLConfig(
    train=TrainConfig(
        seq_length=11,
        epochs=100,
        total_steps=200,
        batch_size=100,
        checkpoint_interval=10000,
        eval_interval=20,
        pipeline="PromptPipeline",
        trainer="AccelerateILQLTrainer",
        checkpoint_dir=str(RUNS / "ilql"),
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
    method=ILQLConfig(
        name="ILQLConfig",
        tau=0.8,
        gamma=0.99,
        cql_scale=0.1,
        awac_scale=1.0,
        alpha=0.1,
        beta=0.0,
        steps_for_target_q_sync=5,
        two_qs=True,
        gen_kwargs={"max_new_tokens": 9, "top_k": 10, "beta": [0, 1, 100], "temperature": 1.0},
    ),
)


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config = TRLConfig.update(default_config, hparams)
    metric_fn, prompts, walks, _ = generate_random_walks(seed=config.train.seed)
    start = cloned_start(walks, config.train.seed)
    return trlx.train(
        samples=[[walk[:1], walk[1:]] for walk in walks],  # from where, and the rest of the walk
        rewards=metric_fn(walks)["optimality"],
        eval_prompts=prompts * 10,  # sampled: ten walks from each node
        metric_fn=lambda samples, **kwargs: metric_fn(samples),
        config=config.evolve(model={"model_path": start}, tokenizer={"tokenizer_path": start}),
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
