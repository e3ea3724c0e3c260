"""Text cells that a spreadsheet will not run as formulas (OWASP, "CSV Injection").

A cell that begins with = + - @, tab, CR or LF (also full-width, also after white space) gets a leading apostrophe; so
does a cell that already looks like one so treated, which makes the treatment reversible.
"""

from __future__ import annotations

import re

_RISKY = re.compile(r"'*(?:[\t\r\n]|[\s\ufeff\u200b\x00]*[=+\-@＝＋－＠])")


def neutralise(text: str) -> str:
    """The text with an apostrophe before it when a spreadsheet might run it (or when it looks so treated)."""
    return "'" + text if _RISKY.match(text) else text


def restore(cell: str) -> str:
    """What `neutralise` was given."""
    return cell[1:] if cell.startswith("'") and _RISKY.match(cell[1:]) else cell
