"""Optimizers and learning-rate schedules by the names that configurations use."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler

from trlx.utils.errors import UserError, nearest
from trlx.utils.strict import read_numbers


class OptimizerName(StrEnum):
    """What `optimizer.name` may be. The 8-bit ones need the package bitsandbytes."""

    ADAM = "adam"
    ADAMW = "adamw"
    ADAM_8BIT_BNB = "adam_8bit_bnb"
    ADAMW_8BIT_BNB = "adamw_8bit_bnb"
    SGD = "sgd"


class SchedulerName(StrEnum):
    """What `scheduler.name` may be."""

    COSINE_ANNEALING = "cosine_annealing"
    LINEAR = "linear"
    CONSTANT = "constant"


_OPTIMIZERS: dict[OptimizerName, type[Optimizer]] = {
    OptimizerName.ADAM: torch.optim.Adam,
    OptimizerName.ADAMW: torch.optim.AdamW,
    OptimizerName.SGD: torch.optim.SGD,
}
_EIGHT_BIT = {OptimizerName.ADAM_8BIT_BNB: "Adam8bit", OptimizerName.ADAMW_8BIT_BNB: "AdamW8bit"}
_SCHEDULERS: dict[SchedulerName, type[LRScheduler]] = {
    SchedulerName.COSINE_ANNEALING: CosineAnnealingLR,
    SchedulerName.LINEAR: LinearLR,
    SchedulerName.CONSTANT: ConstantLR,
}


def get_optimizer_class(name: str) -> type[Optimizer]:
    """The class of an `OptimizerName`, in any case. Raises: UserError for another name, or without bitsandbytes."""
    known = _read_name("optimizer", name, OptimizerName)
    return _eight_bit_class(known) if known in _EIGHT_BIT else _OPTIMIZERS[known]


def get_scheduler_class(name: str) -> type[LRScheduler]:
    """The class of a `SchedulerName`, in any case. Raises: UserError for another name."""
    return _SCHEDULERS[_read_name("scheduler", name, SchedulerName)]


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], kwargs: Mapping[str, Any]) -> Optimizer:
    """The optimizer over the parameters that train. Raises: UserError for an unknown name or keyword."""
    cls = get_optimizer_class(name)
    _check_kwargs("optimizer", cls, kwargs)
    make: Any = cls
    options = read_numbers(kwargs)
    if cls in (torch.optim.Adam, torch.optim.AdamW) and not {"foreach", "fused", "differentiable"} & options.keys():
        options["fused"] = True  # one pass over weights and moments instead of a dozen
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return _made("optimizer", make, trained, options)


def make_scheduler(name: str, optimizer: Optimizer, kwargs: Mapping[str, Any]) -> LRScheduler:
    """The schedule, stepped once an optimizer step. Raises: UserError for an unknown name or keyword."""
    cls = get_scheduler_class(name)
    _check_kwargs("scheduler", cls, kwargs)
    if cls is ConstantLR:
        kwargs = {"factor": 1.0, "total_iters": 0, **kwargs}
    return _made("scheduler", cls, optimizer, read_numbers(kwargs))


def _made(section: str, make: Any, first: Any, options: Mapping[str, Any]) -> Any:
    """torch's own checks as our errors: a keyword that is missing, a number out of range."""
    try:
        return make(first, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{section}.kwargs: {error}: change them") from error


def _read_name(section: str, name: str, names: Any) -> Any:
    value = str(getattr(name, "value", name)).lower()
    known = [str(item.value) for item in names]
    if value not in known:
        raise UserError(f"unknown {section}.name '{value}'{nearest(value, known)}")
    return names(value)


def _check_kwargs(section: str, cls: type, kwargs: Mapping[str, Any]) -> None:
    accepted = list(inspect.signature(cls).parameters)[1:]  # the first is given by us
    for key in kwargs:
        if key not in accepted:
            raise UserError(f"unknown key '{section}.kwargs.{key}'{nearest(key, accepted)}")


def _eight_bit_class(name: OptimizerName) -> type[Optimizer]:
    try:
        from bitsandbytes import optim
    except ImportError as error:
        plain = name.value.removesuffix("_8bit_bnb")
        raise UserError(
            f"optimizer.name {name.value} needs the package bitsandbytes: pip install bitsandbytes, or take {plain}"
        ) from error
    return getattr(optim, _EIGHT_BIT[name])
