"""Which rows a stage reads, as its options choose them: read one at a time, named by their content, compared.

A share of the rows can be held out for validation. Which ones, the text of their prompt decides: the rows of one prompt
fall on one side, at every start and in every stage, whatever the order of the data.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tasks.reading.rows import OnBadRows, Skipped, choose_on_bad
from tasks.reading.sources import open_source
from tasks.records import Pair, PairCounts, Post
from tasks.registry import get_task
from tasks.task import usable_pairs, usable_posts
from trlx.pipeline.token_cache import code_hash
from trlx.utils.errors import UserError

Record = TypeVar("Record", Post, Pair)


class RowOptions(Protocol):
    """The options of a stage that say which rows it trains on, and which it evaluates on."""

    task: str
    data: str
    columns: dict[str, str]
    bad_rows: OnBadRows
    valid_data: str | None
    valid_percentage: float | None
    train_split: str
    valid_split: str
    train_limit: int | None


@dataclass(frozen=True)
class Part:
    """One side of rows that are divided into those to train on and those held out.

    Args:
        percentage: of the prompts that are held out, about; above 0 and below 100.
        held_out: whether it is that side.
    """

    percentage: float
    held_out: bool

    @property
    def other(self) -> Part:
        """The rest of the rows."""
        return replace(self, held_out=not self.held_out)

    def has(self, prompt: str) -> bool:
        """Whether the rows of a prompt, as the task has cleaned it, are of this side."""
        place = int.from_bytes(hashlib.sha256(prompt.encode("utf-8", "backslashreplace")).digest()[:8])
        return (place < self.percentage / 100 * 2**64) == self.held_out

    def of(self, records: Iterable[Record], named: str) -> Iterator[Record]:
        """Those of this side. Raises: UserError at the end when there were records, but none of this side."""
        number = kept = 0
        for number, record in enumerate(records, start=1):  # noqa: B007
            if self.has(record.prompt):
                kept += 1
                yield record
        if number and not kept:
            fault, remedy = ("holds out none", "raise") if self.held_out else ("leaves none to train on", "lower")
            raise UserError(
                f"{named}: --valid_percentage {self.percentage:g} {fault} of {number} rows: {remedy} it, or name rows "
                "of their own with --valid_data"
            )


@dataclass(frozen=True)
class Chosen:
    """The rows of one split.

    Args:
        task: reads them. source, split, limit, columns: as of `tasks.task.Task.iter_posts`.
        bad_rows: what becomes of rows that cannot be used.
        part: which side of the rows, where a share is held out; the limit then counts those of this side.
    """

    task: str
    source: str
    split: str | None
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    part: Part | None = None

    def divided(self, percentage: float, valid_data: str | None, valid_limit: int | None) -> tuple[Chosen, Chosen]:
        """These rows to train on, and a share of them to evaluate on; no prompt is on both sides.

        Args:
            percentage: the share. valid_data: the option that names other rows, which must be null.
            valid_limit: the first so many of the rows held out; None for all.

        Raises: UserError for a percentage that leaves one side empty, and for one given with other rows.
        """
        if not 0 < percentage < 100:
            raise UserError(f"--valid_percentage must be above 0 and below 100, not {percentage:g}")
        if valid_data is not None:
            raise UserError("--valid_percentage and --valid_data exclude each other: give one of them")
        held_out = replace(self, limit=valid_limit, part=Part(percentage, True))
        return replace(self, part=Part(percentage, False)), held_out

    def posts(self, skipped: Skipped) -> Iterator[Post]:
        """The posts; what is left out is told to `skipped`. Raises: UserError as `tasks.task.Task.iter_posts`, and when
        none is of the part."""
        return self._taken(get_task(self.task).iter_posts(self.source, self.split, **self._how(skipped)))

    def pairs(self, skipped: Skipped, counts: PairCounts) -> Iterator[Pair]:
        """The pairs; what is left out is told to `skipped`, and counted. Raises: as `tasks.task.Task.iter_pairs`, and
        when none is of the part.

        Of a part `counts` counts the kept ones of that side, and what was dropped of both.
        """
        found = get_task(self.task).iter_pairs(self.source, self.split, counts=counts, **self._how(skipped))
        kept = 0
        for pair in self._taken(found):
            kept += 1
            yield pair
        if self.part is not None:
            counts.kept, counts.total = kept, kept + counts.identical + counts.short

    def load_posts(self) -> list[Post]:
        """The posts as a list; what was left out is said. Raises: UserError also when no row could be used."""
        skipped = Skipped()
        return usable_posts(self.posts(skipped), self.source, self.split, skipped)

    def load_pairs(self) -> tuple[list[Pair], PairCounts]:
        """The pairs as a list, and how many were dropped. Raises: UserError also when no pair is left."""
        skipped, counts = Skipped(), PairCounts()
        return usable_pairs(self.pairs(skipped, counts), self.source, self.split, skipped, counts), counts

    def _taken(self, records: Iterator[Record]) -> Iterator[Record]:
        return records if self.part is None else itertools.islice(self.part.of(records, self.source), self.limit)

    def _how(self, skipped: Skipped) -> dict[str, Any]:
        limit = self.limit if self.part is None else None
        return {"limit": limit, "columns": self.columns, "on_bad": choose_on_bad(self.bad_rows, skipped)}

    @functools.cached_property
    def content(self) -> str:
        """A hash of the source's content and of the split that is taken of it. Raises: UserError as `open_source`."""
        return open_source(self.source, self.split, self.columns.get("split", "split")).content_hash()

    @property
    def facts(self) -> dict[str, Any]:
        """All that the records depend on, as JSON values; where the data lie is not among it."""
        return {
            "task": self.task,
            "content": self.content,
            "split": self.split,
            "limit": self.limit,
            "columns": dict(self.columns),
            "bad_rows": self.bad_rows,
            "part": None if self.part is None else [self.part.percentage, self.part.held_out],
            "code": code_hash([Path(__file__).parent]),
        }

    def same_rows_as(self, other: Chosen) -> bool:
        """Whether both read the same data; limits do not count. A file that names no splits is every split."""
        apart = self.part is not None and self.part.other == other.part
        return not apart and self.content == other.content

    def warning(self, what: str, option: str) -> str:
        """What to say when a stage is judged on the rows it trains on.

        Args:
            what: they are for besides training, e.g. "validation". option: names others.
        """
        return (
            f"WARNING: training and {what} read the same rows, {self.source}: what is measured on them says nothing "
            f"about others; name some with {option}, or give a folder with a file for each split"
        )


def train_and_valid(options: RowOptions, valid_limit: int | None) -> tuple[Chosen, Chosen]:
    """The rows to train on and those to evaluate on.

    Args:
        valid_limit: the first so many of the latter; None for all.

    Raises: UserError as `Chosen.divided`.
    """
    how = (options.columns, options.bad_rows)
    train = Chosen(options.task, options.data, options.train_split, options.train_limit, *how)
    if options.valid_percentage is not None:
        return train.divided(options.valid_percentage, options.valid_data, valid_limit)
    return train, Chosen(options.task, options.valid_data or options.data, options.valid_split, valid_limit, *how)
