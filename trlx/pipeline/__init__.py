"""Data on its way in: the registry of pipelines and what each must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch.utils.data import DataLoader, Dataset

from trlx.utils.registry import Registry

_DATAPIPELINE = Registry("pipeline")
register_datapipeline, get_pipeline = _DATAPIPELINE.register, _DATAPIPELINE.find


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
