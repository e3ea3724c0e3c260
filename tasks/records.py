"""The records that a task hands to the stages: posts with a reference summary, and preference pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Post:
    """One prompt and its reference summary."""

    id: str  # unique within its split; reference scores are kept under it
    prompt: str  # ends "TL;DR:"
    summary: str  # clean: no leading space, no "TL;DR:", no EOS text
    post: str = ""  # the body alone, for people to read
    extra: dict[str, Any] = field(default_factory=dict)  # every other column of the data
    where: str = field(default="", compare=False)  # file and line it was read from, for messages


@dataclass(frozen=True)
class Pair:
    """Two summaries of one prompt, the first preferred."""

    id: str
    prompt: str  # ends "TL;DR:"
    chosen: str  # clean
    rejected: str  # clean
    extra: dict[str, Any] = field(default_factory=dict)  # e.g. batch, confidence, worker, gold_prefers_chosen
    where: str = field(default="", compare=False)  # file and line it was read from, for messages


@dataclass
class PairCounts:
    """What became of the pairs of one split."""

    total: int = 0
    kept: int = 0
    identical: int = 0  # dropped: both summaries are the same text
    short: int = 0  # dropped: one of them has fewer words than the task's form asks for

    def __str__(self) -> str:
        dropped = f"{self.identical} identical, {self.short} too short"
        return f"{self.kept} of {self.total} pairs kept; dropped: {dropped}"
