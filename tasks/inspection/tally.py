"""Counted as the usable rows of one split go by: lengths, what the limits take away, labels beside the text."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tasks.inspection.lengths import Spread, spread
from tasks.inspection.measure import Measured
from tasks.inspection.report import Fit, Rollouts
from tasks.inspection.view import Record
from tasks.records import Post

FACETS = ("batch", "confidence")
MOST_VALUES = 200  # a column with more different values is no facet


def parts_of(kind: str) -> tuple[str, ...]:
    """Names of the responses of a row."""
    return ("response",) if kind == "posts" else ("chosen", "rejected")


@dataclass
class LengthTally:
    """Lengths of every part of the rows: 4 bytes each."""

    kind: str
    parts: dict[str, array[int]] = field(default_factory=dict)

    def add(self, block: Measured) -> None:
        for name, lengths in zip(("prompt", *parts_of(self.kind)), (block.prompts, *block.responses), strict=True):
            self.parts.setdefault(name, array("i")).extend(lengths.tolist())

    def spreads(self) -> dict[str, Spread]:
        """By part; "sum" is what a limit must hold, "difference" is chosen minus rejected."""
        if not self.parts:
            return {}
        parts = {name: np.array(values, dtype=np.int64) for name, values in self.parts.items()}
        sides = [parts[name] for name in parts_of(self.kind)]
        values = {"prompt": parts["prompt"], **{name: parts[name] for name in parts_of(self.kind)}}
        values["sum"] = parts["prompt"] + np.max(sides, axis=0)
        if self.kind == "pairs":
            values["difference"] = sides[0] - sides[1]
        return {name: found for name, column in values.items() if (found := spread(column))}

    def chosen_longer(self) -> float | None:
        """Share of the pairs whose chosen side is the longer one, equal ones counting half; None of posts."""
        if self.kind == "posts" or not self.parts:
            return None
        difference = np.array(self.parts["chosen"]) - np.array(self.parts["rejected"])
        return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


@dataclass
class FitTally:
    """What the limits take away."""

    max_length: int
    max_new_tokens: int
    rows: int = 0
    cut: int = 0
    lost: int = 0
    too_long: int = 0
    first_too_long: str = ""
    prompts_cut: int = 0
    references_longer: int = 0

    def add(self, block: Measured) -> None:
        self.rows += len(block.records)
        self.prompts_cut += int((block.prompts > self.room).sum())
        self.references_longer += int((block.longest > self.max_new_tokens).sum())
        for place, lost in block.lost.items():
            if lost is None:
                self.too_long += 1
                self.first_too_long = self.first_too_long or block.records[place].where
            else:
                self.cut += 1
                self.lost += lost

    @property
    def room(self) -> int:
        """Tokens that PPO leaves to a prompt."""
        return self.max_length - self.max_new_tokens

    def fit(self) -> Fit:
        mean = self.lost / self.cut if self.cut else 0.0
        return Fit(self.max_length, self.rows, self.cut, mean, self.too_long, self.first_too_long)

    def rollouts(self) -> Rollouts:
        return Rollouts(self.room, self.max_new_tokens, self.prompts_cut, self.references_longer)


@dataclass
class FacetTally:
    """Rows by batch and by confidence, and who labelled them, where the data say so."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        if isinstance(record, Post):
            return
        for name in FACETS:
            if name in record.extra:
                counter = self.counts.setdefault(name, Counter())
                value = str(record.extra[name])
                counter[value if value in counter or len(counter) < MOST_VALUES else "others"] += 1
        if "worker" in record.extra:
            self.people.add(str(record.extra["worker"]))

    def facets(self) -> dict[str, dict[str, int]]:
        """Each facet's values in their natural order (9 before 10), with their rows."""
        return {name: dict(sorted(counter.items(), key=_natural)) for name, counter in self.counts.items()}

    def workers(self) -> int | None:
        """How many different people; None when the data do not say."""
        return len(self.people) or None


def _natural(item: tuple[str, int]) -> tuple[int, int, str]:
    text = item[0]
    number = int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else None
    return (0, number, "") if number is not None else (1, 0, text)
