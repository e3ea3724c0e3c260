"""What a format makes of one row: its texts as the data have them, not yet cleaned."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from tasks.reading.rows import RawRow, Row

# A flag that CSV makes text of, and what text it may be made.
_GOLD = "gold_prefers_chosen"
_FLAGS = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}


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

    Null and "" hold nothing: CSV cannot tell them apart; nor does NaN, as which pandas writes null. A `confidence` that
    is a whole number is made an int (CSV has it as text, pandas as a float), and `gold_prefers_chosen` a truth value.
    """
    extra = {name: value for name, value in row.values.items() if name not in used and name != "id"}
    if "confidence" in extra:
        extra["confidence"] = whole(extra["confidence"])
    if isinstance(extra.get(_GOLD), str):
        extra[_GOLD] = _FLAGS.get(extra[_GOLD].strip(), extra[_GOLD])
    return {name: value for name, value in extra.items() if value is not None and value != "" and not is_nan(value)}


def is_nan(value: object) -> bool:
    """Whether a value is the number that stands for none."""
    return isinstance(value, float) and math.isnan(value)


def begin_with(prompt: str, *texts: str) -> bool:
    """Whether every text begins with the whole prompt, but for white space at the prompt's end.

    The prompt must end where a word or a sentence does: "It rains" begins neither "It rains." nor "It rainstorms".
    """
    bare = prompt.rstrip()
    for text in texts:
        if not text.startswith(bare):
            return False
        after = text[len(bare) : len(bare) + 1]
        if after and not after.isspace() and (bare[-1:].isalnum() or not after.isalnum()):
            return False
    return True


def whole(value: object) -> object:
    """An int where the value is a whole number in some other guise, None for a blank or NaN, else the value itself."""
    if is_nan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        text = value.strip()
        # The length keeps out what Python would not convert, and what is no rating anyway.
        number = text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 20
        return int(text) if number else value if text else None
    return value
