"""One table, for the console (rich) and as Markdown; and how names and numbers are written in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from evaluation.statistics import Interval

_LABELS = {
    "sft": "SFT",
    "ppo": "PPO",
    "ppo_heldout": "PPO-held",
    "rft": "RFT",
    "title": "Title",
    "first_sentence": "Lead-1",
    "first_30_words": "Lead-30",
}


@dataclass(frozen=True)
class Table:
    """A table ready to be shown: `above` is a sentence before it, `caption` says how the numbers came about."""

    title: str
    header: list[str]
    rows: list[list[str]]
    caption: str
    above: str = ""

    def to_markdown(self) -> str:
        """GitHub's table syntax; bars inside cells are escaped."""
        lines = [f"### {self.title}", ""]
        if self.above:
            lines += [self.above, ""]
        lines += [_bars(self.header), _bars(["---"] * len(self.header))]
        lines += [_bars([cell.replace("|", "\\|") for cell in row]) for row in self.rows]
        return "\n".join([*lines, "", self.caption, ""])

    def print(self, console: Console) -> None:
        """To the terminal; an interval goes on a line of its own, so that five columns fit in 80 characters."""
        if self.above:
            console.print(Text(self.above))
        rich = RichTable(title=Text(self.title), caption=Text(self.caption), caption_justify="left", pad_edge=False)
        rows = [[cell.replace(" [", "\n[") for cell in row] for row in self.rows]
        for number, name in enumerate(self.header):
            # No interval may be broken in two: names and headers give way.
            widest = max((len(line) for row in rows for line in row[number].split("\n")), default=0) if number else None
            justify: Literal["left", "right"] = "left" if number == 0 else "right"
            rich.add_column(Text(name), justify=justify, min_width=widest, overflow="fold")
        for row in rows:
            rich.add_row(*map(Text, row))
        console.print(rich)


def _bars(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def label(name: str) -> str:
    """SFT, PPO and RFT in capitals, a baseline as words, any other model's name as it was given."""
    return _LABELS.get(name, name)


def counted(count: int, what: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def number(value: Interval | None, digits: int = 3, signed: bool = False) -> str:
    """`0.320 [0.311, 0.329]`; without brackets where there is no interval, a dash where there is no value."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{value.mean:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def p_value(value: float) -> str:
    """Three digits, and no more precision than the permutations give."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"
