"""What a format makes of one row: its texts as the data have them, not yet cleaned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tasks.reading.rows import RawRow, Row


@dataclass(frozen=True)
class PostText:
    """A prompt and its reference summary."""

    prompt: str
    summary: str
    id: str | None = None  # None where the data have none
    extra: Row = field(default_factory=dict)  # columns that are neither text nor id


@dataclass(frozen=True)
class PairText:
    """A prompt and two summaries, the first preferred."""

    prompt: str
    chosen: str
    rejected: str
    id: str | None = None
    extra: Row = field(default_factory=dict)


def others(row: RawRow, used: Collection[str]) -> Row:
    """The columns of a row that hold something and are neither `used` nor the id.

    Null and "" hold nothing: CSV cannot tell them apart. A `confidence` that is a whole number is made an int: CSV has
    it as text, pandas as a float.
    """
    extra = {name: value for name, value in row.values.items() if name not in used and name != "id"}
    if "confidence" in extra:
        extra["confidence"] = whole(extra["confidence"])
    return {name: value for name, value in extra.items() if value is not None and value != ""}


def whole(value: object) -> object:
    """An int where the value is a whole number in some other guise, None for a blank, else the value itself."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        # The length keeps out what Python would not convert, and what is no rating anyway.
        number = text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 20
        return int(text) if number else value if text else None
    return value
