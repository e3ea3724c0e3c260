"""Microbatches: nothing lost, nothing empty, the type kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BatchEncoding

from trlx.pipeline import MiniBatchIterator
from trlx.utils.errors import UserError


@dataclass
class Record:
    ids: Tensor
    names: list[str]
    mask: Tensor | None = None


class Trimmed:
    """A batch that gives rows in its own way."""

    def __init__(self, rows: list[int]):
        self.given = rows

    def __len__(self) -> int:
        return len(self.given)

    def rows(self, index: slice) -> "Trimmed":
        return Trimmed([row * 10 for row in self.given[index]])


def batches_of(rows: int, batch_size: int) -> Iterator[Tensor]:
    return iter(torch.arange(rows).split(batch_size))


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 4))
def test_every_row_is_in_one_part_in_order(rows: int, batch_size: int, mb_size: int, num_mb: int) -> None:
    steps = list(MiniBatchIterator(batches_of(rows, batch_size), mb_size, num_mb))
    assert [row for parts in steps for part in parts for row in part.tolist()] == list(range(rows))
    assert all(1 <= len(part) <= mb_size for parts in steps for part in parts)
    assert len(steps) == -(-rows // batch_size)  # an optimizer step a batch


def test_a_short_last_batch_gives_fewer_and_shorter_parts() -> None:
    # 11 rows in batches of 8 and microbatches of 2: 2 2 2 2, then 2 1.
    steps = MiniBatchIterator(batches_of(11, 8), mb_size=2, num_mb=4)
    assert [[len(part) for part in parts] for parts in steps] == [[2, 2, 2, 2], [2, 1]]


@pytest.mark.parametrize(
    "batch",
    [
        Record(torch.arange(5), list("abcde")),
        {"ids": torch.arange(5), "names": list("abcde"), "count": 5},
        BatchEncoding({"ids": torch.arange(5), "names": list("abcde")}),
    ],
)
def test_the_type_of_a_batch_is_kept(batch: Any) -> None:
    first, second = next(MiniBatchIterator([batch], mb_size=3, num_mb=2))
    assert type(first) is type(second) is type(batch)

    def read(part: Any, name: str) -> Any:
        return getattr(part, name) if isinstance(part, Record) else part[name]

    assert read(first, "ids").tolist() == [0, 1, 2] and read(second, "ids").tolist() == [3, 4]
    assert read(first, "names") == ["a", "b", "c"] and read(second, "names") == ["d", "e"]


def test_what_has_no_rows_goes_to_every_part() -> None:
    batch = {"ids": torch.arange(4), "temperature": 0.5, "name": "word", "scale": torch.tensor(2.0), "none": None}
    for part in next(MiniBatchIterator([batch], mb_size=2, num_mb=2)):
        assert (part["temperature"], part["name"], part["none"]) == (0.5, "word", None)
        assert part["scale"].item() == 2.0


def test_a_batch_with_rows_of_its_own_is_asked_for_them() -> None:
    parts = next(MiniBatchIterator([Trimmed([1, 2, 3])], mb_size=2, num_mb=2))
    assert [part.given for part in parts] == [[10, 20], [30]]


def test_it_stops_where_the_loader_stops_and_skips_empty_batches() -> None:
    steps = MiniBatchIterator([torch.arange(0), torch.arange(2)], mb_size=2, num_mb=1)
    assert iter(steps) is steps
    assert [part.tolist() for part in next(steps)] == [[0, 1]]
    with pytest.raises(StopIteration):
        next(steps)


def test_a_loader_of_torch_is_taken() -> None:
    loader = DataLoader([{"ids": i} for i in range(6)], batch_size=4)  # type: ignore[arg-type]
    steps = [[part["ids"].tolist() for part in parts] for parts in MiniBatchIterator(loader, 2, 2)]
    assert steps == [[[0, 1], [2, 3]], [[4, 5]]]


@pytest.mark.parametrize("batch", [[torch.arange(3)], 7, "text"])
def test_other_kinds_are_refused_by_name(batch: Any) -> None:
    with pytest.raises(UserError, match=f"not {type(batch).__name__}"):
        next(MiniBatchIterator([batch], 1, 1))
    with pytest.raises(UserError, match="mb_size must be at least 1"):
        MiniBatchIterator([], 0, 1)
