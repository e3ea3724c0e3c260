"""Rejection fine-tuning: the model is trained on the most positive of its own continuations.

accelerate launch --config_file configs/default_accelerate_config.yaml examples/rft_sentiments.py
python examples/rft_sentiments.py --miniature
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import trlx
from examples.sentiments import read_hparams, set_up
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
        seq_length=1024,
        epochs=100,
        total_steps=1000,
        batch_size=32,
        checkpoint_interval=10000,
        eval_interval=100,
        pipeline="PromptPipeline",
        trainer="AccelerateRFTTrainer",
    ),
    model=ModelConfig(model_path="lvwerra/gpt2-imdb", num_layers_unfrozen=-1),
    tokenizer=TokenizerConfig(tokenizer_path="gpt2", truncation_side="right"),
    optimizer=OptimizerConfig(
        name="adamw", kwargs={"lr": 3e-5, "betas": (0.9, 0.95), "eps": 1.0e-8, "weight_decay": 1.0e-6}
    ),
    scheduler=SchedulerConfig(name="cosine_annealing", kwargs={"T_max": 1e12, "eta_min": 3e-5}),
    method=RFTConfig(
        name="RFTConfig",
        n_generations_per_prompt=4,
        start_percentile=0.9,
        end_percentile=0.95,
        n_improve_steps=1,
        gen_kwargs={"max_new_tokens": 40, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "do_sample": True},
    ),
)


def main(hparams: Mapping[str, Any] = {}) -> Any:
    config, task = set_up(default_config, hparams, "rft")

    def reward_fn(samples: Sequence[str], **_: Any) -> list[float]:
        return task.positive(samples)

    return trlx.train(reward_fn=reward_fn, prompts=task.prompts()[:512], eval_prompts=task.eval_prompts, config=config)


if __name__ == "__main__":
    main(read_hparams(sys.argv[1:]))
