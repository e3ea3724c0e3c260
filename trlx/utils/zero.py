"""Weights that DeepSpeed's ZeRO holds in pieces: reading them, and having them whole for a while.

Under stage 3 every rank keeps a share of each weight, and hooks on every module fetch the rest before its forward and
drop it afterwards. That suits training. A model that generates would fetch everything once a token, and ranks whose
rows end at different times would wait for each other for ever; so `whole` fetches once and puts the hooks aside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def is_sharded(parameter: nn.Parameter) -> bool:
    """Whether ZeRO stage 3 holds the parameter in pieces."""
    return "ds_tensor" in vars(parameter)


def master_weight(parameter: nn.Parameter) -> Tensor:
    """The whole float32 master of a trained parameter under ZeRO; the parameter itself, whole, where there is none.

    A collective: every rank must call it for the same parameters in the same order.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    master: Any = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
    if master is not None:
        return master.detach().view(vars(parameter).get("ds_shape", parameter.shape))
    with gathered([parameter]):
        return parameter.detach().clone() if is_sharded(parameter) else parameter.detach()


@contextlib.contextmanager
def gathered(parameters: Iterable[nn.Parameter], modifier_rank: int | None = None) -> Iterator[None]:
    """Within the block, the parameters are whole on every rank, each in memory of its own; free where none is sharded.

    A collective on entering, and with `modifier_rank`, whose changes then count for all, on leaving too.
    """
    sharded = [parameter for parameter in parameters if is_sharded(parameter)]
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=modifier_rank):
        yield


@contextlib.contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Within the block, a forward of the module communicates nothing, whatever other ranks do; without gradient only.

    Costs a whole copy of its weights on every rank, in the precision they train in, until the block is left. A
    collective on entering.
    """
    with gathered(module.parameters()), _hooks_aside(module):
        yield


@contextlib.contextmanager
def _hooks_aside(module: nn.Module) -> Iterator[None]:
    """Without the forward hooks that DeepSpeed has put on the module and those in it; others stay, in their order."""
    tables: list[dict[int, Any]] = [
        table for part in module.modules() for table in (part._forward_pre_hooks, part._forward_hooks)
    ]
    before = [dict(table) for table in tables]
    try:
        for table in tables:
            _refill(table, {key: hook for key, hook in table.items() if not _is_deepspeeds(hook)})
        yield
    finally:
        for table, hooks in zip(tables, before, strict=True):
            _refill(table, hooks)


def _refill(table: dict[int, Any], hooks: Mapping[int, Any]) -> None:
    """In place: the handles that remove hooks know the table."""
    table.clear()
    table.update(hooks)


def _is_deepspeeds(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("deepspeed")
