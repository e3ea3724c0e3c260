"""Optimizers and learning-rate schedules by the names that configurations use."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler

from trlx.utils.errors import UserError, nearest
from trlx.utils.strict import read_numbers

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULERS: dict[str, type[LRScheduler]] = {
    "cosine_annealing": CosineAnnealingLR,
    "linear": LinearLR,
    "constant": ConstantLR,
}


def _checked(kind: str, name: str, known: Mapping[str, type], kwargs: Mapping[str, Any]) -> Any:
    if name.lower() not in known:
        raise UserError(f"unknown {kind}.name '{name}'{nearest(name.lower(), known)}")
    cls = known[name.lower()]
    accepted = set(inspect.signature(cls).parameters)
    for key in kwargs:
        if key not in accepted:
            raise UserError(f"unknown key '{kind}.kwargs.{key}'{nearest(key, accepted)}")
    return cls


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], kwargs: Mapping[str, Any]) -> Optimizer:
    """The optimizer over the parameters that train. Raises: UserError for an unknown name or keyword."""
    cls = _checked("optimizer", name, OPTIMIZERS, kwargs)
    return cls([parameter for parameter in parameters if parameter.requires_grad], **read_numbers(kwargs))


def make_scheduler(name: str, optimizer: Optimizer, kwargs: Mapping[str, Any]) -> LRScheduler:
    """The schedule, stepped once an optimizer step. Raises: UserError for an unknown name or keyword."""
    cls = _checked("scheduler", name, SCHEDULERS, kwargs)
    if name.lower() == "constant":
        kwargs = {"factor": 1.0, "total_iters": 0, **kwargs}
    return cls(optimizer, **read_numbers(kwargs))
