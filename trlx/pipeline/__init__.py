"""Data on its way in: the registry of pipelines and what each must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch.utils.data import DataLoader, Dataset

from trlx.utils.errors import UserError, nearest

_DATAPIPELINE: dict[str, type] = {}


def register_datapipeline(name: str | type) -> Any:
    """Class decorator that makes a pipeline known by its lower-cased name, or by the name given."""

    def register(cls: type, key: str) -> type:
        _DATAPIPELINE[key.lower()] = cls
        return cls

    if isinstance(name, str):
        return lambda cls: register(cls, name)
    return register(name, name.__name__)


def get_pipeline(name: str) -> type:
    """The pipeline registered as `name`, in any case. Raises: UserError naming the nearest known one."""
    if name.lower() not in _DATAPIPELINE:
        raise UserError(f"unknown pipeline '{name}'{nearest(name.lower(), _DATAPIPELINE)}")
    return _DATAPIPELINE[name.lower()]


@register_datapipeline
class BasePipeline(Dataset, ABC):
    """A dataset that can make batches of itself."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def create_loader(self, batch_size: int, shuffle: bool = False) -> DataLoader:
        """A loader of collated batches."""
