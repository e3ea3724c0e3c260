"""Text cells that a spreadsheet will not run as formulas (OWASP, "CSV Injection").

A cell that begins with = + - @, tab, CR or LF (also full-width, also after white space) gets a leading apostrophe; so
does a cell that already looks like one so treated, which makes the treatment reversible.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

_RISKY = re.compile(r"'*(?:[\t\r\n]|[\s\ufeff\u200b\x00]*[=+\-@＝＋－＠])")


def neutralise(text: str) -> str:
    """The text with an apostrophe before it when a spreadsheet might run it (or when it looks so treated)."""
    return "'" + text if _RISKY.match(text) else text


def restore(cell: str) -> str:
    """What `neutralise` was given."""
    return cell[1:] if cell.startswith("'") and _RISKY.match(cell[1:]) else cell


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV of rows, a column for every key that one of them has, texts neutralised and quoted, numbers not.

    A cell that a row lacks is empty.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, restval="", quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: neutralise(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows)
    return buffer.getvalue()
