"""Trainers and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from trlx.data.configs import TRLConfig
from trlx.utils.errors import UserError, nearest

_TRAINERS: dict[str, type] = {}


def register_trainer(name: str | type) -> Any:
    """Class decorator that makes a trainer known by its lower-cased name, or by the name given."""

    def register(cls: type, key: str) -> type:
        _TRAINERS[key.lower()] = cls
        return cls

    if isinstance(name, str):
        return lambda cls: register(cls, name)
    return register(name, name.__name__)


def get_trainer(name: str) -> Callable[..., Any]:
    """The trainer registered as `name`, in any case. Raises: UserError naming the nearest known one."""
    if name.lower() not in _TRAINERS:
        raise UserError(f"unknown trainer '{name}'{nearest(name.lower(), _TRAINERS)}")
    return _TRAINERS[name.lower()]


@register_trainer
class BaseRLTrainer(ABC):
    """What every trainer offers.

    Args:
        config: the run's. reward_fn, metric_fn: see `trlx.train`.
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
