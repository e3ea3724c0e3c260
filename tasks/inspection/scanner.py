"""How the rows of a split are got at: raw, and as the records that are made of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from tasks.inspection.duplicates import body_of
from tasks.inspection.raw import RawCounts
from tasks.inspection.view import Record
from tasks.reading.columns import mapped
from tasks.reading.formats import Kind, kinds_of, recognise
from tasks.reading.rows import BadRow, RawRow, Skipped
from tasks.reading.sources import open_source
from tasks.records import PairCounts
from tasks.task import Task
from tasks.text import TLDR

T = TypeVar("T")


_KINDS: tuple[Kind, Kind] = ("pairs", "posts")  # in the order in which they are tried


@dataclass(frozen=True)
class Survey:
    """What the rows of a split are. `format`: its name. `used`: columns that are read as text or label."""

    counts: RawCounts
    kind: Kind
    format: str
    used: list[str]


@dataclass(frozen=True)
class Scanner:
    """What every split is read with.

    Args:
        task: makes records of rows. source, columns, limit: as its `iter_posts` takes them.
    """

    task: Task
    source: str
    columns: Mapping[str, str]
    limit: int | None = None

    def raw_rows(self, split: str | None) -> Iterator[RawRow]:
        """Rows that could be read, under our names; what is wrong with the others is found by `records`."""
        source = open_source(self.source, split, self.columns.get("split", "split"))
        for row in itertools.islice(source.rows(_pass_over), self.limit):
            try:
                yield mapped(row, self.columns)
            except BadRow:
                continue

    def records(self, split: str | None, kind: Kind, skipped: Skipped, counts: PairCounts) -> Iterator[Record]:
        """The usable rows; bad ones are counted in `skipped`, dropped pairs in `counts`."""
        if kind == "posts":
            return self.task.iter_posts(self.source, split, limit=self.limit, columns=self.columns, on_bad=skipped)
        return self.task.iter_pairs(
            self.source, split, limit=self.limit, columns=self.columns, on_bad=skipped, counts=counts
        )

    def survey(self, split: str | None, name: str, kind: Kind | None) -> Survey:
        """The raw rows counted, and their format.

        Args:
            name: of the split, for the progress bar. kind: what is wanted; None takes what the rows can be read as.

        Raises: UserError when no row is of a known format.
        """
        counts = RawCounts(summarises=self.task.form is TLDR)
        found: Survey | None = None
        first: RawRow | None = None
        for row in progress(self.raw_rows(split), f"{name}: rows"):
            counts.add(row)
            first = first or row
            found = found or self._recognised(row, kind, counts)
        if found is None:
            first = RawRow(first.values if first else {}, self.source)
            recognise(self.task.row(first, kind or "posts").values, kind or "posts", self.source, self._named)
        assert found is not None  # of a row that is recognised after all something was found
        return found

    def _recognised(self, row: RawRow, kind: Kind | None, counts: RawCounts) -> Survey | None:
        """What a row is; None when nothing can be made of it."""
        for one in _KINDS:
            try:
                made = self.task.row(row, one)
            except BadRow:
                continue
            if kind in (None, one) and one in kinds_of(made.values):
                form = recognise(made.values, one, row.where, self._named)
                # A task may have columns of its own, of which it makes those of a known format.
                own = [name for name in row.values if name not in made.values]
                used = [*own, *(name for name in form.columns if name in row.values)]
                return Survey(counts, one, f"columns of task {self.task.name}" if own else form.name, used)
        return None

    @property
    def _named(self) -> list[str]:
        return [name for name, column in self.columns.items() if column]

    def bodies(self, split: str | None, kind: Kind, rows: set[int]) -> dict[int, str]:
        """The posts of some usable rows, numbered from 0, read again."""
        records = self.records(split, kind, Skipped(), PairCounts())
        upto = itertools.islice(records, max(rows) + 1)
        return {number: body_of(record) for number, record in enumerate(upto) if number in rows}


def _pass_over(bad: BadRow) -> None:
    pass


def progress(items: Iterable[T], description: str) -> Iterable[T]:
    """A bar on a terminal; nothing elsewhere."""
    return tqdm(items, description, unit=" rows", leave=False, disable=None)
