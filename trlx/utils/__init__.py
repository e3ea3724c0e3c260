"""Small helpers under the names that scripts written for trlX import.

They are loaded on first use: the modules below this package (errors, files) stay quick to import for command lines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trlx.utils.basics import (
        Clock,
        filter_non_scalars,
        get_git_tag,
        infinite_dataloader,
        print_rank_0,
        set_seed,
        significant,
        to_device,
        tree_map,
    )
    from trlx.utils.optimizers import OptimizerName, SchedulerName, get_optimizer_class, get_scheduler_class

__all__ = [
    "Clock",
    "OptimizerName",
    "SchedulerName",
    "filter_non_scalars",
    "get_git_tag",
    "get_optimizer_class",
    "get_scheduler_class",
    "infinite_dataloader",
    "print_rank_0",
    "set_seed",
    "significant",
    "to_device",
    "tree_map",
]

_OPTIMIZERS = {"OptimizerName", "SchedulerName", "get_optimizer_class", "get_scheduler_class"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "trlx.utils.optimizers" if name in _OPTIMIZERS else "trlx.utils.basics"
    return getattr(importlib.import_module(home), name)
