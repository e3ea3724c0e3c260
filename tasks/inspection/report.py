"""Everything that an inspection finds, as plain numbers: what the console shows and the JSON file holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from tasks.inspection.duplicates import Overlap
from tasks.inspection.lengths import Spread
from tasks.inspection.near import Near
from tasks.inspection.view import Example


@dataclass(frozen=True)
class Column:
    """A column of the data as it is: rows that have it, and those of them in which it is null or blank."""

    present: int
    empty: int
    used: bool  # by the format that was recognised


@dataclass(frozen=True)
class BadReason:
    """Rows that cannot be used for one reason, with the first of them."""

    reason: str
    count: int
    first: str
    remedy: str


@dataclass(frozen=True)
class Fit:
    """What `max_length` takes away in SFT (posts) or reward-model training (pairs).

    Args:
        cut: rows whose prompt loses tokens; mean_lost: how many each of them loses.
        too_long: rows that cannot fit, the prompt's fixed parts or the response being too long by themselves;
        first_too_long: the place of the first.
    """

    max_length: int
    rows: int
    cut: int
    mean_lost: float
    too_long: int
    first_too_long: str


@dataclass(frozen=True)
class Rollouts:
    """What PPO makes of posts: prompts get `room` = max_length - max_new_tokens tokens."""

    room: int
    max_new_tokens: int
    prompts_cut: int
    references_longer: int  # reference summaries that no response can be as long as


@dataclass(frozen=True)
class SplitReport:
    """One split. `rows` = usable + bad rows + dropped pairs."""

    name: str
    rows: int
    usable: int
    format: str
    files: dict[str, int] = field(default_factory=dict)  # rows of each file
    columns: dict[str, Column] = field(default_factory=dict)
    bad: tuple[BadReason, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)  # pairs, by reason
    foreign_prompts: int = 0  # neither with a TL;DR heading nor with its closing
    facets: dict[str, dict[str, int]] = field(default_factory=dict)  # e.g. batch → rows of each
    workers: int | None = None
    lengths: dict[str, Spread] = field(default_factory=dict)
    chosen_longer: float | None = None  # share of the pairs, equal lengths counting half
    fit: Fit | None = None
    rollouts: Rollouts | None = None

    @property
    def read(self) -> int:
        """Rows that could be read, whatever is wrong with their fields."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Finding:
    """Something a careful person would worry about, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """The whole inspection. `unit`: of the lengths, tokens or words."""

    source: str
    kind: Literal["posts", "pairs"]
    unit: str
    splits: tuple[SplitReport, ...]
    overlaps: tuple[Overlap, ...] = ()
    contradictions: dict[str, int] = field(default_factory=dict)  # of each split, pairs only
    near_threshold: float | None = None
    near: tuple[Near, ...] = ()
    examples: tuple[Example, ...] = ()
    findings: tuple[Finding, ...] = ()

    def as_json(self) -> str:
        """As a JSON object."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        # A column may be called by half a character, which UTF-8 cannot write; its escape is JSON too.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
