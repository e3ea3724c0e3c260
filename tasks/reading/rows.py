"""A row on its way from a file to a record, and what becomes of one that cannot be used.

Every row knows where it came from, so that whatever is wrong with it later is said of that line. Readers hand what is
wrong to a `BadRows` function: `stop` raises it, a `Skipped` counts it and lets the reader go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from trlx.utils.errors import UserError

Row = dict[str, Any]
BadRows = Callable[["BadRow"], None]
SKIP = "or pass --bad_rows skip"  # the end of the remedy for a row that may be left out
OnBadRows = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as a file or hub set gives it."""

    values: Row
    where: str  # "data/train.jsonl, line 12"


class BadRow(UserError):
    """One row that cannot be used; the others may be fine.

    Args:
        where: the file and the line or row in it.
        reason: what is wrong, in the same words for all such rows, e.g. "'summary' is empty".
        remedy: what to do about it.
        detail: particulars of this row, shown in parentheses after the reason.
    """

    def __init__(self, where: str, reason: str, remedy: str, detail: str = ""):
        self.where, self.reason, self.remedy, self.detail = where, reason, remedy, detail
        super().__init__(f"{where}: {reason}{f' ({detail})' if detail else ''}: {remedy}")


def stop(bad: BadRow) -> None:
    """The strict way: the first bad row ends the reading."""
    raise bad


@dataclass
class Skipped:
    """The lenient way: bad rows are left out, counted by reason, and the first of each reason is kept to be shown."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, BadRow] = field(default_factory=dict)

    def __call__(self, bad: BadRow) -> None:
        self.counts[bad.reason] += 1
        self.first.setdefault(bad.reason, bad)

    def __str__(self) -> str:
        """`"3 rows skipped: 2 'summary' is empty (first: x.jsonl, line 4); 1 not JSON (first: x.jsonl, line 9)"`."""
        parts = [f"{count} {reason} (first: {self.first[reason].where})" for reason, count in self.counts.most_common()]
        return f"{self.counts.total()} rows skipped: {'; '.join(parts)}"


def choose_on_bad(bad_rows: OnBadRows, skipped: Skipped) -> BadRows:
    """What the option `bad_rows` means: the first bad row ends the reading, or `skipped` collects them."""
    return skipped if bad_rows == "skip" else stop
