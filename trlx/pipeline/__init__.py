"""Data on its way in: the registry of pipelines, what each must offer, and how a batch is split into microbatches."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trlx.utils.errors import UserError
from trlx.utils.registry import Registry

_DATAPIPELINE = Registry("pipeline")
register_datapipeline, get_pipeline = _DATAPIPELINE.register, _DATAPIPELINE.find


@register_datapipeline
class BasePipeline(Dataset, ABC):
    """A dataset that can make batches of itself."""

    def __init__(self, path: str = "dataset"):
        super().__init__()

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def create_loader(self, batch_size: int, shuffle: bool = False) -> DataLoader:
        """A loader of collated batches."""


class BaseRolloutStore(Dataset, ABC):
    """What is trained on, kept in `history`."""

    def __init__(self, capacity: int = -1):
        super().__init__()
        self.history: list[Any] = []
        self.capacity = capacity

    def push(self, exps: Iterable[Any]) -> None:
        """Take further elements."""
        self.history += list(exps)

    def __getitem__(self, index: int) -> Any:
        return self.history[index]

    def __len__(self) -> int:
        return len(self.history)

    @abstractmethod
    def create_loader(self, batch_size: int, shuffle: bool = False) -> DataLoader:
        """A loader of collated batches."""


@runtime_checkable
class HasRows(Protocol):
    """A batch that knows how to give some of its rows, e.g. with the padding that they need no more cut off."""

    def __len__(self) -> int: ...

    def rows(self, index: slice) -> Any:
        """A batch of the same kind with the rows of `index`."""


class MiniBatchIterator:
    """Microbatches: each item is a list of the parts that one batch of the loader is split into, in order.

    Every row of a batch is in one part, and no part is empty; so a short last batch gives fewer parts or shorter ones,
    and one of more than mb_size · num_mb rows gives more.

    Args:
        data_loader: of batches that are tensors, mappings, dataclasses or `HasRows`; lists in them have an entry a row.
        mb_size: rows of a part. num_mb: parts that a full batch has.

    Raises: UserError for another kind of batch.
    """

    def __init__(self, data_loader: Iterable[Any], mb_size: int, num_mb: int):
        if mb_size < 1:
            raise UserError(f"mb_size must be at least 1, not {mb_size}")
        self.data_loader, self.mb_size, self.num_mb = data_loader, mb_size, num_mb
        self.data_loader_iter = iter(data_loader)

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        for batch in self.data_loader_iter:
            count = None if isinstance(batch, (list, tuple)) else _count(batch)
            if count is None:
                kind = type(batch).__name__
                raise UserError(f"a batch to split must be a tensor, a mapping or a dataclass of tensors, not {kind}")
            if count:
                return [take_rows(batch, slice(i, i + self.mb_size)) for i in range(0, count, self.mb_size)]
        raise StopIteration


def take_rows(batch: Any, index: slice) -> Any:
    """Some rows of a batch, in a batch of the same type; what has no rows (numbers, text, None) stays as it is."""
    if isinstance(batch, HasRows):
        return batch.rows(index)
    if isinstance(batch, Tensor):
        return batch[index] if batch.dim() else batch
    if isinstance(batch, (list, tuple)):
        return batch[index]
    if isinstance(batch, Mapping):
        return type(batch)({name: take_rows(value, index) for name, value in batch.items()})  # type: ignore[call-arg]
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        names = [item.name for item in dataclasses.fields(batch)]
        return dataclasses.replace(batch, **{name: take_rows(getattr(batch, name), index) for name in names})
    return batch


def _count(batch: Any) -> int | None:
    """Rows of a batch; None for what has none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else None
    if isinstance(batch, Mapping):  # whose own length may be its number of names
        values = list(batch.values())
    elif isinstance(batch, (HasRows, list, tuple)):
        return len(batch)
    elif dataclasses.is_dataclass(batch):
        values = [getattr(batch, item.name) for item in dataclasses.fields(batch)]
    else:
        return None
    return next((count for count in map(_count, values) if count is not None), None)
