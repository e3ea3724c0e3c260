"""When to kill: moments of a run drawn from what a run that nobody killed did when."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from killing import OTHER

Changes = Sequence[tuple[float, str]]  # (when, what was under way) of each change of a file that a process made


@dataclass(frozen=True)
class Moment:
    """Before the `change`-th change of a file (from 1), or `wait` seconds after the one before it."""

    change: int
    wait: float | None = None

    def __str__(self) -> str:
        return f"change {self.change}" if self.wait is None else f"{self.wait:.3f} s after change {self.change - 1}"


def read_changes(record: Path) -> Changes:
    return [(when, part) for when, part in json.loads(record.read_text())]


def at_changes(changes: Changes, kills: int, draw: random.Random) -> list[Moment]:
    """One in each of `kills` equal parts of all changes."""
    edges = [1 + len(changes) * part // kills for part in range(kills + 1)]
    return [Moment(draw.randrange(low, max(low + 1, high))) for low, high in itertools.pairwise(edges)]


def at_times(changes: Changes, kills: int, draw: random.Random) -> list[Moment]:
    """One in each of `kills` equal parts of the time that training takes, with its evaluations and saves."""
    training = [when for when, part in changes if part != OTHER]
    first, last = training[0], training[-1]
    shares = [(part + draw.random()) / kills for part in range(kills)]
    return [_at(changes, first + share * (last - first)) for share in shares]


def in_rollouts(changes: Changes, kills: int, draw: random.Random) -> list[Moment]:
    """In the second half of the time before a round's statistics, the first change after it: before come saves."""
    ends = [n for n in range(1, len(changes)) if changes[n][1] == "rollouts" != changes[n - 1][1]]
    chosen = [draw.choice(ends) for _ in range(kills)] if ends else []
    return [_at(changes, draw.uniform((changes[n - 1][0] + changes[n][0]) / 2, changes[n][0])) for n in chosen]


def _at(changes: Changes, when: float) -> Moment:
    after = max(index for index, (time, _) in enumerate(changes[:-1]) if time <= when)
    return Moment(after + 2, when - changes[after][0])


def moments(changes: Changes, kills: int, seed: int) -> list[Moment]:
    """A third, and the first, at changes of files; a third at any time; a third in rollouts, else at any time too."""
    draw = random.Random(seed)
    rolling = in_rollouts(changes, kills // 3, draw)
    timed = at_times(changes, kills // 3 * 2 - len(rolling), draw)
    return [*at_changes(changes, kills - len(timed) - len(rolling), draw), *timed, *rolling]
