"""Which rows a stage reads, as its options choose them: read one at a time, named by their content, compared."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.reading.rows import OnBadRows, Skipped, choose_on_bad
from tasks.reading.sources import open_source
from tasks.records import Pair, PairCounts, Post
from tasks.registry import get_task
from trlx.pipeline.token_cache import code_hash


@dataclass(frozen=True)
class Chosen:
    """The rows of one split.

    Args:
        task: reads them. source, split, limit, columns: as of `tasks.task.Task.iter_posts`.
        bad_rows: what becomes of rows that cannot be used.
    """

    task: str
    source: str
    split: str | None
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"

    def posts(self, skipped: Skipped) -> Iterator[Post]:
        """The posts; what is left out is told to `skipped`. Raises: UserError as `tasks.task.Task.iter_posts`."""
        return get_task(self.task).iter_posts(self.source, self.split, **self._how(skipped))

    def pairs(self, skipped: Skipped, counts: PairCounts) -> Iterator[Pair]:
        """The pairs; what is left out is told to `skipped`, and counted. Raises: as `tasks.task.Task.iter_pairs`."""
        return get_task(self.task).iter_pairs(self.source, self.split, counts=counts, **self._how(skipped))

    def _how(self, skipped: Skipped) -> dict[str, Any]:
        return {"limit": self.limit, "columns": self.columns, "on_bad": choose_on_bad(self.bad_rows, skipped)}

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
            "code": code_hash([Path(__file__).parent]),
        }

    def same_rows_as(self, other: Chosen) -> bool:
        """Whether both read the same data; limits do not count. A file that names no splits is every split."""
        return self.content == other.content

    def warning(self, what: str, option: str) -> str:
        """What to say when a stage is judged on the rows it trains on.

        Args:
            what: they are for besides training, e.g. "validation". option: names others.
        """
        return (
            f"WARNING: training and {what} read the same rows, {self.source}: what is measured on them says nothing "
            f"about others; name some with {option}, or give a folder with a file for each split"
        )
