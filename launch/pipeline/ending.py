"""What is said of a stage that failed."""

from __future__ import annotations

import signal
from pathlib import Path

from trlx.utils.errors import one_line

MOST_LINES, MOST_BYTES = 12, 20_000


def describe(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"failed with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def last_lines(log: Path, offset: int = 0) -> list[str]:
    """The last lines of a log, from `offset` bytes on, without progress bars' many states."""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - MOST_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [one_line(line.rpartition("\r")[2]) for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-MOST_LINES:]
