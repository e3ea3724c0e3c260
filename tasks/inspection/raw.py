"""What the rows hold before anything is made of them: files, columns, empty fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tasks.inspection.report import Column
from tasks.reading.rows import RawRow
from tasks.text import PROMPT_END

# What readers put after the name of a file or table; only the last of these is no part of a name.
_PLACE = re.compile(r"(, element \d+)?, line \d+\Z|, row \d+\Z")
_HEADINGS = ("SUBREDDIT:", "TITLE:", "POST:", "Article:")


@dataclass
class RawCounts:
    """Counted over the rows of a split that could be read at all.

    Args:
        summarises: whether prompts are expected to have the headings and the closing of summarisation.
    """

    summarises: bool = True

    files: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    foreign_prompts: int = 0

    def add(self, row: RawRow) -> None:
        self.files[file_of(row.where)] += 1
        for name, value in row.values.items():
            self.present[name] += 1
            self.empty[name] += is_empty(value)
        self.foreign_prompts += self.summarises and is_foreign(row.values.get("prompt"))

    def columns(self, used: Collection[str]) -> dict[str, Column]:
        """Every column; `used`: those that the format needs, which are listed even when no row has them."""
        names = dict.fromkeys([*used, *self.present])
        return {name: Column(self.present[name], self.empty[name], name in used) for name in names}


def file_of(where: str) -> str:
    """`"data/train.jsonl, line 12"` and `"data/train.jsonl, element 2, line 12"` → `"data/train.jsonl"`."""
    return _PLACE.sub("", where)


def is_empty(value: Any) -> bool:
    """Null, blank text, or a list or object of nothing."""
    return value is None or (isinstance(value, str) and not value.strip()) or (value in ([], {}))


def is_foreign(prompt: Any) -> bool:
    """Whether a prompt has nothing of a summarisation prompt: no heading at its start, no `TL;DR:` at its end."""
    if not isinstance(prompt, str):
        return False
    text = prompt.strip()
    return bool(text) and not text.startswith(_HEADINGS) and not text.endswith(PROMPT_END)
