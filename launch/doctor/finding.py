"""What a check of the doctor says: one line, ok / warn / fail, with the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trlx.utils.terminal import inert, open_console

Status = Literal["ok", "warn", "fail"]
COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was seen, and what to do about it (empty where all is well)."""

    status: Status
    name: str
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.name}: {self.seen}" + (f": {self.remedy}" if self.remedy else "")


def ok(name: str, seen: str) -> Finding:
    """All is well."""
    return Finding("ok", name, seen)


def judge(good: bool, name: str, seen: str, remedy: str, otherwise: Status = "fail") -> Finding:
    """`ok`, or else `otherwise` with the remedy."""
    return ok(name, seen) if good else Finding(otherwise, name, seen, remedy)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether any line is a `fail`."""
    return any(finding.status == "fail" for finding in findings)


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """A table on standard output and a line that counts."""
    console = console or open_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("", "check", "seen", "remedy"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        cells = (Text(inert(text)) for text in (finding.name, finding.seen, finding.remedy))
        table.add_row(Text(finding.status, COLOURS[finding.status]), *cells)
    console.print(table)
    counts = (f"{sum(one.status == status for one in findings)} {status}" for status in COLOURS)
    console.print(Text(", ".join(counts)))
