"""Optimizers and schedules by name."""

from typing import Any

import pytest
import torch
from torch import nn

from trlx.utils.errors import UserError
from trlx.utils.optimizers import make_optimizer, make_scheduler


def test_only_parameters_that_train_are_given_to_the_optimizer() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    optimizer = make_optimizer("AdamW", layer.parameters(), {"lr": 0.1, "betas": (0.9, 0.95)})
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == [id(layer.weight)]


def test_schedules() -> None:
    def rates(name: str, kwargs: dict[str, Any]) -> list[float]:
        optimizer = make_optimizer("sgd", nn.Linear(1, 1).parameters(), {"lr": 1.0})
        scheduler = make_scheduler(name, optimizer, kwargs)
        seen = []
        for _ in range(3):
            seen.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        return seen

    assert rates("constant", {}) == [1.0, 1.0, 1.0]
    assert rates("linear", {"start_factor": 1.0, "end_factor": 0.5, "total_iters": 2}) == [1.0, 0.75, 0.5]
    # half a cosine over two steps: 1, (1 + cos 90°)/2 = 0.5, 0
    assert rates("cosine_annealing", {"T_max": 2, "eta_min": 0.0}) == pytest.approx([1.0, 0.5, 0.0])


def test_refusals() -> None:
    parameters = list(nn.Linear(1, 1).parameters())
    with pytest.raises(UserError, match=r"unknown optimizer.name 'adamm'; did you mean 'adam'"):
        make_optimizer("adamm", parameters, {})
    with pytest.raises(UserError, match=r"unknown key 'optimizer.kwargs.beta'; did you mean 'betas'"):
        make_optimizer("adam", parameters, {"beta": 1})
    optimizer = make_optimizer("adam", parameters, {})
    with pytest.raises(UserError, match=r"unknown scheduler.name 'cosine'"):
        make_scheduler("cosine", optimizer, {})
    with pytest.raises(UserError, match=r"unknown key 'scheduler.kwargs.tmax'"):
        make_scheduler("cosine_annealing", optimizer, {"tmax": 1})
