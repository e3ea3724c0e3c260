"""Lengths of rows, a block at a time; here in words, in `tokens` in tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from tasks.inspection.view import Record, responses_of

BLOCK = 256
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """A block of rows with its lengths.

    Args:
        prompts: (rows,). responses: (1 or 2, rows), chosen before rejected.
        lost: place in the block of a row that is over the limit → tokens that its prompt loses; None when prompt and
            response cannot fit at all.
    """

    records: Sequence[Record]
    prompts: np.ndarray
    responses: np.ndarray
    lost: dict[int, int | None] = field(default_factory=dict)

    @property
    def longest(self) -> np.ndarray:
        """(rows,) lengths of the longer response."""
        return self.responses.max(axis=0)


class Ruler(Protocol):
    """Measures rows as they stream by. `unit`: "tokens" or "words"."""

    unit: str

    def measured(self, records: Iterable[Record]) -> Iterator[Measured]: ...


class WordRuler:
    """Counts words, where there is no tokenizer."""

    unit = "words"

    def measured(self, records: Iterable[Record]) -> Iterator[Measured]:
        for block in blocks(records, BLOCK):
            prompts = [len(record.prompt.split()) for record in block]
            sides = [[len(text.split()) for text in texts] for texts in zip(*map(responses_of, block), strict=True)]
            yield Measured(block, np.array(prompts), np.array(sides))


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while block := list(itertools.islice(iterator, size)):
        yield block
