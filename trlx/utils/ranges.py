"""Which numbers can be meant: ranges of settings, checked by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trlx.utils.errors import BadKey


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them; `words` complete "must be ..."."""

    words: str
    low: float
    high: float = math.inf

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


TINIEST = math.nextafter(0.0, 1.0)
LARGEST = math.nextafter(math.inf, 0.0)
AT_LEAST_1 = Range("at least 1", 1)
AT_LEAST_0 = Range("0 or more", 0)
POSITIVE = Range("a number above 0", TINIEST, LARGEST)
ABOVE_0 = Range("above 0", TINIEST)  # infinity is welcome where it means no limit
NOT_NEGATIVE = Range("a number that is 0 or more", 0, LARGEST)
FINITE = Range("a finite number", -LARGEST, LARGEST)
SHARE = Range("between 0 and 1", 0, 1)
BELOW_1 = Range("from 0 to below 1", 0, math.nextafter(1.0, 0.0))


def require_ranges(settings: Any, ranges: Mapping[str, Range], prefix: str = "--") -> None:
    """Check the numbers of an object; one that is None has no range.

    Args:
        settings: its attributes are checked. ranges: attribute → range.
        prefix: what stands before the name in the message, e.g. "--" or "train.".

    Raises: BadKey naming the setting and its range.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if value is not None and value not in allowed:
            raise BadKey(f"{prefix.removeprefix('--')}{name}", f"{prefix}{name} must be {allowed.words}, not {value}")
