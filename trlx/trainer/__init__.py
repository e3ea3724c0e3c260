"""Trainers and their registry."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from trlx.data.configs import TRLConfig
from trlx.utils.registry import Registry

_TRAINERS = Registry("trainer")
register_trainer = _TRAINERS.register
# The modules that register this package's own trainers.
_MODULES = (
    *(f"accelerate_{method}_trainer" for method in ("ppo", "ilql", "sft", "rft")),
    *(f"nemo_{method}_trainer" for method in ("ppo", "ilql", "sft")),
)


def get_trainer(name: str) -> Any:
    """The trainer class registered as `name`, in any case. Raises: UserError naming the nearest known one."""
    for module in _MODULES:
        importlib.import_module(f"trlx.trainer.{module}")
    return _TRAINERS.find(name)


@register_trainer
class BaseRLTrainer(ABC):
    """What every trainer offers.

    Args:
        config: the run's. reward_fn, metric_fn: see `trlx.train`.
        logit_mask: (V, V) bool, True = the second token must not follow the first; None allows all.
        stop_sequences: texts that end a response.
        train_mode: False for a trainer that only generates.
    """

    iter_count: int = 0  # optimizer steps done

    def __init__(
        self,
        config: TRLConfig,
        reward_fn: Callable[..., Any] | None = None,
        metric_fn: Callable[..., Any] | None = None,
        logit_mask: Any = None,
        stop_sequences: list[str] | None = None,
        train_mode: bool = True,
    ):
        self.config, self.reward_fn, self.metric_fn = config, reward_fn, metric_fn
        self.train_mode, self.logit_mask, self.stop_sequences = train_mode, logit_mask, stop_sequences

    @abstractmethod
    def learn(self) -> None:
        """Train until the configured end."""

    @abstractmethod
    def save(self, directory: str | None = None) -> None:
        """Write a checkpoint."""

    @abstractmethod
    def load(self, directory: str) -> None:
        """Go on from a checkpoint."""
