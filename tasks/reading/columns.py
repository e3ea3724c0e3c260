"""The columns of a row: other people's names for them mapped to ours, and text taken out of them with care.

A name may be dotted to reach into nested values: `info.title`, `summaries.0.text`. A column whose own name has dots in
it is found first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tasks.reading.rows import SKIP, BadRow, RawRow, Row
from tasks.reading.texts import is_nan
from trlx.utils.errors import UserError, nearest

# Every name by which a format asks for a column; the left sides of `--columns.NAME COLUMN`.
NAMES = (
    *("id", "prompt", "label", "completion"),
    *("subreddit", "title", "post", "summary"),
    *("instruction", "context", "response", "text"),
    *("article", "highlights"),
    *("chosen", "rejected"),
    *("split", "batch", "confidence", "worker"),
    *("info", "summaries", "choice"),
)
MEND = f"mend or drop the row, {SKIP}"

_NOTHING = object()
_SURROGATE = re.compile("[\ud800-\udfff]")
# The beginning of a list of messages that somebody's export made text of; what may be the first key of one.
_CHAT_AS_TEXT = re.compile(r"""\[\s*\{\s*(["'])(?:role|content)\1\s*:""")
_SHOWN = 20  # columns listed in a message


def check_columns(columns: Mapping[str, str]) -> None:
    """Check what `--columns` was given: our names on the left, a column on the right.

    Only `split` may be mapped to nothing, which means that the data's `split` column is not to be looked at.

    Raises: UserError naming the nearest name for an unknown one.
    """
    for name, column in columns.items():
        if name not in NAMES:
            raise UserError(f"--columns: '{name}' is no column that is asked for{nearest(name, NAMES)}")
        if not isinstance(column, str) or not (column.strip() or name == "split"):
            raise UserError(f"--columns.{name}: a column of the data is needed, not {column!r}: name one")


def mapped(row: RawRow, columns: Mapping[str, str]) -> RawRow:
    """The row with its columns under our names; columns that are not mapped stay as they are.

    Args:
        columns: our name → column of the data. A top-level column is renamed, and takes the place of one that has our
            name already; a nested value is copied out and its column stays.

    Raises: BadRow when the row has no such column; null in it, or on the way to it, is a value like others.
    """
    columns = {name: column for name, column in columns.items() if column}
    if not columns:
        return row
    taken = {name: _mapped_value(row, name, column) for name, column in columns.items()}
    renamed = set(columns.values())
    rest = {name: value for name, value in row.values.items() if name not in renamed}
    return RawRow({**rest, **taken}, row.where)


def _mapped_value(row: RawRow, name: str, column: str) -> Any:
    value = _reach(row.values, column)
    if value is _NOTHING:
        reason = f"no column '{column}', to which --columns.{name} points"
        hint = nearest(column, _paths(row.values)).removeprefix("; ")
        remedy = f"{hint if hint.startswith('did') else 'name another'} (null in it will do where there is nothing)"
        raise BadRow(row.where, reason, remedy, f"columns: {listed(row.values)}")
    return value


def _reach(values: Any, path: str) -> Any:
    """The value at a dotted path, None behind a null, `_NOTHING` where the path leads nowhere."""
    if isinstance(values, Mapping) and path in values:
        return values[path]
    head, _, rest = path.partition(".")
    if isinstance(values, list):
        # The length spares int() a number that no list reaches.
        inner = values[int(head)] if head.isdecimal() and len(head) < 9 and int(head) < len(values) else _NOTHING
    else:
        inner = values.get(head, _NOTHING) if isinstance(values, Mapping) else _NOTHING
    if not rest or inner is None or inner is _NOTHING:
        return inner
    return _reach(inner, rest)


def _paths(values: Row) -> list[str]:
    """The columns of a row, and the fields one level below."""
    inner = [f"{name}.{key}" for name, value in values.items() if isinstance(value, Mapping) for key in value]
    return [*map(str, values), *inner]


def listed(columns: Collection[str]) -> str:
    """Names of columns for a message, the first so many of them."""
    names = [str(name) for name in columns]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"


def need_text(row: RawRow, name: str) -> str:
    """The text of a column, untouched.

    Args:
        name: our name of it, dotted for a nested value.

    Raises: BadRow when it is missing, not text, blank, or holds what no tokenizer should see.
    """
    text = some_text(row, name)
    if not text.strip():
        raise BadRow(row.where, f"'{name}' is empty", MEND)
    return text


def some_text(row: RawRow, name: str) -> str:
    """As `need_text`, but the text may be blank.

    Raises: BadRow also for a chat that an export, such as to CSV, has made text of.
    """
    value = _reach(row.values, name)
    if value is _NOTHING:
        remedy = f"add it, or map another with --columns.{name.partition('.')[0]} COLUMN"
        raise BadRow(row.where, f"no column '{name}'", remedy, f"columns: {listed(row.values)}")
    text = sound_text(row, name, value)
    if text.startswith("[") and _CHAT_AS_TEXT.match(text):
        remedy = "save the data as .jsonl or .parquet, with lists of messages"
        raise BadRow(row.where, f"'{name}' is a chat written as text", remedy, f"it begins {text[:24]!r}")
    return text


def text_or_none(row: RawRow, name: str) -> str | None:
    """As `some_text`, and None where the column is missing or null."""
    value = _reach(row.values, name)
    return None if value is None or value is _NOTHING else sound_text(row, name, value)


def sound_text(row: RawRow, name: str, value: Any) -> str:
    """The value if it is text without NUL characters and lone surrogates.

    Raises: BadRow, which calls it `name`.
    """
    if value is None:
        raise BadRow(row.where, f"'{name}' is empty", MEND, "null")
    if not isinstance(value, str):
        raise BadRow(row.where, f"'{name}' is not text", "make it text, or drop the row", kind_of(value))
    if "\0" in value:
        raise BadRow(row.where, f"'{name}' holds NUL characters", f"take them out, {MEND}")
    if not value.isascii() and _SURROGATE.search(value):
        raise BadRow(row.where, f"'{name}' holds half a character (a lone surrogate)", f"take it out, {MEND}")
    return value


def row_id(row: RawRow) -> str | None:
    """The id of a row as text; None where it has none (NaN is none, too).

    Raises: BadRow for an id that is neither text nor a number.
    """
    value = row.values.get("id")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if is_nan(value) else str(value)
    text = text_or_none(row, "id")
    return text if text and text.strip() else None


def kind_of(value: Any) -> str:
    """What a value is, in words for people."""
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list", str: "text"}
    return kinds.get(type(value), f"a {type(value).__name__}")
