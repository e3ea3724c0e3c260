"""An instruction with its answers: what every source of instructions is read as, and every format is written from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from tasks.reading.rows import BadRows

Turns = Literal["first", "all"]
Rejected = Literal["worst", "each"]


@dataclass(frozen=True)
class Answer:
    """One answer. `rank`: 0 is the best of its instruction; None where nobody compared it with another."""

    text: str
    rank: int | None = None


@dataclass(frozen=True)
class Example:
    """One instruction.

    Args:
        instruction: bare, or a dialogue that ends "Assistant:". context: what it is about; "" for nothing.
        answers: those with a rank first, the best before the others. where: file and line, for messages.
    """

    instruction: str
    context: str
    answers: tuple[Answer, ...]
    where: str


@dataclass
class Choice:
    """What is taken of a source, and what is done about the rest.

    Args:
        on_bad: about a row that cannot be used.
        lang: only messages in this language; None for all. turns: of conversations.
        rejected: which worse answers make a pair with the best one.
        limit: the first so many rows (of conversations: instructions); None for all.
        dropped: counts what is left out though nothing is wrong with it.
    """

    on_bad: BadRows
    lang: str | None = None
    turns: Turns = "first"
    rejected: Rejected = "worst"
    limit: int | None = None
    dropped: Counter[str] = field(default_factory=Counter)
