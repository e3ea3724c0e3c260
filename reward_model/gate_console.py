"""What the gate says on the terminal: the checks, and accuracy by batch and confidence where the data name them.

Left out: accuracy by annotator, who are many; `gate.json` has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Words

from evaluation.statistics import Interval
from reward_model.verdict import Check

SHOWN_GROUPS = ("batch", "confidence")
MOST_GROUPS = 16


def print_checks(checks: Sequence[Check], console: Console) -> None:
    """A table of the checks to the terminal, and below it why some were not judged."""
    table = Table(
        title=Words("Reward model gate"),
        caption=Words("On so many pairs, posts or texts; brackets: 95% intervals over posts."),
    )
    table.add_column(Words("Check"), overflow="fold")
    table.add_column(Words("Measured"), justify="right")
    table.add_column(Words("Must be"), justify="right")
    table.add_column(Words("Verdict"))
    for one in checks:
        status = Words(one.status, style={"pass": "green", "fail": "bold red", "not judged": "yellow"}[one.status])
        value, _, interval = one.measured.partition(" ")
        measured = "\n".join(filter(None, (f"{value} on {one.n}", interval)))
        table.add_row(Words(one.name), Words(measured), Words(one.wanted), status)
    console.print(table)
    for one in checks:
        if one.status == "not judged":
            console.print(Words(f"{one.name} is not judged: {one.why}"))


def print_groups(by: Mapping[str, Mapping[str, Mapping[str, Any]]], console: Console) -> None:
    """A table of accuracy by batch and by confidence; nothing where the data name neither.

    Args:
        by: group → value → its accuracy as an interval, as `run_checks` tells it.
    """
    for group in SHOWN_GROUPS:
        values = by.get(group, {})
        if not values:
            continue
        more = len(values) - MOST_GROUPS
        caption = "Brackets: 95% intervals (Wilson) over pairs." + (f" {more} more in gate.json." if more > 0 else "")
        table = Table(title=Words(f"Accuracy by {group}"), caption=Words(caption))
        table.add_column(Words(group.capitalize()), overflow="fold")
        table.add_column(Words("Accuracy"), justify="right")
        table.add_column(Words("Pairs"), justify="right")
        for value, row in list(values.items())[:MOST_GROUPS]:
            table.add_row(Words(value), Words(_shown(Interval(**row["accuracy"]))), Words(f"{row['pairs']:,}"))
        console.print(table)


def _shown(found: Interval) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
