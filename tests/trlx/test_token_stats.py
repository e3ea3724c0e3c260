"""Statistics over real tokens, worked by hand."""

import pytest
import torch
from accelerate import Accelerator

from trlx.trainer.token_stats import TokenStats


def test_means_weigh_tokens_not_microbatches() -> None:
    stats = TokenStats()
    stats.add(torch.tensor([[True, True, False]]), losses__policy_loss=torch.tensor([[1.0, 2.0, float("nan")]]))
    stats.add(torch.tensor([[True]]), losses__policy_loss=torch.tensor([[6.0]]))
    assert stats.reduce(Accelerator(cpu=True)) == {"losses/policy_loss": 3.0}  # (1 + 2 + 6) / 3


def test_spread() -> None:
    stats = TokenStats()
    mask = torch.tensor([[True, True, False]])
    stats.add(mask, values=torch.tensor([[-1.0, 3.0, 99.0]]), ratio=torch.ones(1, 3))
    stats.add(torch.zeros(1, 2, dtype=torch.bool), values=torch.full((1, 2), 50.0), ratio=torch.zeros(1, 2))
    reduced = stats.reduce(Accelerator(cpu=True), spread=("values",))
    # −1 and 3: mean 1, population standard deviation 2
    assert reduced == pytest.approx(
        {"ratio": 1.0, "values/mean": 1.0, "values/std": 2.0, "values/max": 3.0, "values/min": -1.0}
    )


def test_booleans_count_as_shares() -> None:
    stats = TokenStats()
    stats.add(torch.ones(1, 4, dtype=torch.bool), policy__clipfrac=torch.tensor([[True, False, False, False]]))
    assert stats.reduce(Accelerator(cpu=True)) == {"policy/clipfrac": 0.25}
