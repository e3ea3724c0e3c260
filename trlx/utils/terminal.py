"""Text of others on a terminal: control characters are shown and not obeyed, and no character breaks the output."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, those that turn the direction of writing, and halves of characters; not the line break.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
WIDEST = 160  # columns; lines of text longer than that are hard to read
WITHOUT_TERMINAL = 100


def inert(text: str) -> str:
    r"""The text with every control character but the line break written as an escape: ESC becomes `\x1b`."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def open_console() -> Console:
    """Standard output as a rich console that takes no text for markup and at most `WIDEST` columns.

    What the output's encoding lacks becomes a question mark. Elsewhere than on a terminal it is `WITHOUT_TERMINAL`
    columns wide, or as many as COLUMNS says, and without colours.
    """
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WITHOUT_TERMINAL
    console.width = min(console.width, WIDEST)
    return console
