"""Rows from JSON: one object a line (JSONL), a list of objects, or objects one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tasks.reading.columns import MEND, kind_of
from tasks.reading.json_values import JsonDecoder, JsonText
from tasks.reading.opening import Opened, skip_mark, text_of
from tasks.reading.rows import SKIP, BadRow, BadRows, RawRow, Row
from trlx.utils.errors import UserError

_SPACE = " \t\r\n"
_COMMENTS = ("//", "/*", "#")
_ONE_A_LINE = f"each line must be one JSON object: {MEND}"


def iter_jsonl(file: Opened, on_bad: BadRows) -> Iterator[RawRow]:
    """One object a line; empty lines are passed over."""
    skip_mark(file)
    decoder = JsonDecoder()
    first = True
    for number, line in file.lines():
        if not line.strip():
            continue
        if first:
            _refuse_spread(line, f"{file.path}, line {number}")
            first = False
        try:
            yield RawRow(_object(line, decoder, where := f"{file.path}, line {number}"), where)
        except BadRow as bad:
            on_bad(bad)


def _object(line: bytes, decoder: JsonDecoder, where: str) -> Row:
    text = text_of(line, where).strip(_SPACE)
    try:
        value, end = decoder.value_at(text, 0)
    except json.JSONDecodeError as error:
        raise _not_json(where, error.msg, text, error.pos) from error
    except RecursionError as error:
        raise BadRow(where, "nested too deeply", _ONE_A_LINE) from error
    if text[end:].strip(_SPACE) == ",":
        raise BadRow(where, "a comma after the object", f"take it off the end of the line, {SKIP}")
    if end != len(text):
        raise _not_json(where, "more text after the value", text, end)
    return _checked(value, decoder, where)


def _not_json(where: str, message: str, text: str, place: int) -> BadRow:
    if text.startswith("\ufeff", place):
        return BadRow(where, "a byte order mark inside the file", f"files were joined: take it out of the line, {SKIP}")
    if text.startswith(_COMMENTS):
        return BadRow(where, "a comment, which JSON does not have", f"take the line out, {SKIP}")
    if _is_spread(text):
        return BadRow(where, "an object over several lines begins here", f"write it on one line, {SKIP}")
    return BadRow(where, "not JSON", _ONE_A_LINE, f"{message}, column {place + 1}")


def _checked(value: Any, decoder: JsonDecoder, where: str) -> Row:
    if not isinstance(value, dict):
        raise BadRow(where, "not an object with columns", MEND, kind_of(value))
    if decoder.trouble:
        raise BadRow(where, decoder.trouble, MEND, decoder.culprit)
    return value


def _refuse_spread(line: bytes, where: str) -> None:
    """Refuse a first line that begins a list or an object that goes on over the next lines, or ends in a comma."""
    text = line.strip()
    if text.startswith(b"{") and text.endswith(b",") and _is_json(text[:-1]):
        raise UserError(
            f"{where}: a comma after the object, and a .jsonl has none between its lines: "
            "take the comma off the end of the lines (sed 's/,[[:space:]]*$//' OLD > NEW)"
        )
    if _is_spread(text.decode(errors="replace")) or text.startswith(b"["):
        what = "a JSON list" if text.startswith(b"[") else "an object over several lines"
        raise UserError(
            f"{where}: {what} begins here, and a .jsonl has one object a line: name the file .json "
            "(`python -m tasks convert` then makes JSONL of it)"
        )


def _is_spread(text: str) -> bool:
    return text.startswith("{") and text.endswith(("{", "[", ","))


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def iter_json(file: Opened, on_bad: BadRows) -> Iterator[RawRow]:
    """A list of objects, or objects one after another, each over any number of lines."""
    skip_mark(file)
    if _has_object_a_line(file):
        yield from iter_jsonl(file, on_bad)
        return
    text = JsonText(file)
    for value in text.elements() if text.is_list() else text.sequence():
        if text.number == 1:
            _refuse_wrapped(value, text)
        try:
            yield RawRow(_checked(value, text.decoder, text.where), text.where)
        except BadRow as bad:
            on_bad(bad)


def _has_object_a_line(file: Opened) -> bool:
    """Whether the first line is one object by itself: then a later broken line is named and may be skipped.

    The stream is left at the beginning of the text.
    """
    start = file.stream.tell()
    head = file.stream.read(2**12)
    file.stream.seek(start)
    if not head.lstrip().startswith(b"{"):
        return False
    try:
        line = next((line for _, line in file.lines() if line.strip()), b"")
        values = _object(line, JsonDecoder(), "")
    except UserError:
        return False
    finally:
        file.stream.seek(start)
    return _wrapped_rows(values) is None


def _refuse_wrapped(value: Any, text: JsonText) -> None:
    """Refuse a file that is one object whose only value is the list of rows, as in `{"data": [...]}`."""
    key = None if text.in_list else _wrapped_rows(value)
    if key is not None and not text.peek():
        raise UserError(
            f"{text.where}: one object, whose key {key!r} holds the rows: write the list alone, "
            f"as in json.dump(json.load(open(OLD))[{key!r}], open(NEW, 'w'))"
        )


def _wrapped_rows(value: Any) -> str | None:
    """The only key of an object when it holds a list of objects that are no chat messages."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((key, rows),) = value.items()
    wrapped = isinstance(rows, list) and rows and all(isinstance(row, dict) and "role" not in row for row in rows)
    return key if wrapped else None
