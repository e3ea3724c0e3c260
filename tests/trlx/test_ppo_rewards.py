"""The rewards that a phase of PPO trains on, made again from what its rollouts keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import make_trainer

SHAPES = {"kl": lambda d: d, "abs": torch.abs, "mse": lambda d: d * d / 2}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_penalty_is_the_one_that_is_asked_for(tokenizer_folder: str, tmp_path: Path, kind: str) -> None:
    config = ppo_config(tmp_path, tokenizer_folder, method__kl_penalty=kind, method__init_kl_coef=0.5)
    trainer = make_trainer(config, reward_fn=lambda outputs, **_: [0.0] * len(outputs))
    trainer.prepare_learning()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # away from the reference
        for weight in trainer.unwrapped_model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
    trainer.iter_count = 1
    trainer.make_experience(8, 1)
    moved = 0.0
    for element in trainer.store:
        log_ratio = element.logprobs - element.ref_logprobs
        moved = max(moved, log_ratio.abs().max().item())
        torch.testing.assert_close(element.rewards, -0.5 * SHAPES[kind](log_ratio), atol=1e-6, rtol=1e-5)
    assert moved > 0.01
