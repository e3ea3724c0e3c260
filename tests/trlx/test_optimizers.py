"""Optimizers and schedules by name."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from trlx.utils.errors import UserError
from trlx.utils.optimizers import (
    OptimizerName,
    SchedulerName,
    get_optimizer_class,
    get_scheduler_class,
    make_optimizer,
    make_scheduler,
)


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
    with pytest.raises(UserError, match=r"unknown key 'optimizer.kwargs.params'"):  # ours to give
        make_optimizer("adam", parameters, {"params": []})


def test_classes_by_name() -> None:
    assert get_optimizer_class("adamw") is get_optimizer_class(OptimizerName.ADAMW) is torch.optim.AdamW
    assert [get_optimizer_class(name) for name in ("ADAM", "sgd")] == [torch.optim.Adam, torch.optim.SGD]
    assert get_scheduler_class("cosine_annealing") is torch.optim.lr_scheduler.CosineAnnealingLR
    assert get_scheduler_class(SchedulerName.LINEAR) is torch.optim.lr_scheduler.LinearLR
    assert [name.value for name in OptimizerName] == ["adam", "adamw", "adam_8bit_bnb", "adamw_8bit_bnb", "sgd"]
    assert {"cosine_annealing", "linear"} <= {name.value for name in SchedulerName}


@pytest.mark.parametrize(("name", "plain"), [("adam_8bit_bnb", "adam"), ("AdamW_8bit_bnb", "adamw")])
def test_8_bit_without_its_package(name: str, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=f"{name.lower()} needs .* pip install bitsandbytes, or take {plain}$"):
        make_optimizer(name, [], {})


def test_8_bit_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    class AdamW8bit(torch.optim.AdamW):
        pass

    package = ModuleType("bitsandbytes")
    package.optim = ModuleType("optim")  # type: ignore[attr-defined]
    package.optim.AdamW8bit = AdamW8bit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    assert get_optimizer_class("adamw_8bit_bnb") is AdamW8bit
    assert make_optimizer("adamw_8bit_bnb", nn.Linear(1, 1).parameters(), {"lr": "1e-3"}).defaults["lr"] == 1e-3
