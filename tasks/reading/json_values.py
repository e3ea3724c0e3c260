"""JSON values out of a text of any length, of which only the part being read is held."""

from __future__ import annotations

import codecs
import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

from tasks.reading.opening import Opened
from trlx.utils.errors import UserError

_CHUNK = 2**16
_NEEDED = "a list of objects is needed, or one object after another"
_SPACE = re.compile(r"[ \t\n\r]*")
# An error this near to the end of what is held may only come of the end: no token that is reported from its beginning
# (a literal, an escaped surrogate pair) is longer.
_LONGEST_TOKEN = 16


class JsonDecoder:
    """The standard decoder, which also says what it read that is not JSON or cannot be held.

    `trouble` is "" after a good value; else the reason, and `culprit` the text (the value has None in its place).
    """

    def __init__(self) -> None:
        self.trouble = self.culprit = ""
        self._decoder = json.JSONDecoder(parse_constant=self._constant, parse_int=self._int, parse_float=self._float)

    def value_at(self, text: str, start: int) -> tuple[Any, int]:
        """The value that begins at `start`, and where it ends. Raises: JSONDecodeError, RecursionError."""
        self.trouble = self.culprit = ""
        return self._decoder.raw_decode(text, start)

    def _note(self, trouble: str, culprit: str) -> None:
        self.trouble, self.culprit = trouble, culprit if len(culprit) < 40 else culprit[:36] + "..."

    def _constant(self, text: str) -> None:
        self._note("a number that is not finite", text)

    def _int(self, text: str) -> int | None:
        try:
            return int(text)
        except ValueError:
            self._note(f"an integer of over {sys.get_int_max_str_digits()} digits", text)
            return None

    def _float(self, text: str) -> float | None:
        value = float(text)
        if not math.isfinite(value):
            self._note("a number that is not finite", text)
        return value


class JsonText:
    """Reads the values of a list, or of a file that holds one after another.

    After each value `where` says where it begins, `number` counts the values, from 1.
    """

    def __init__(self, file: Opened) -> None:
        self.file = file
        self.decoder = JsonDecoder()
        self.number, self.where = 0, str(file.path)
        self.in_list = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._held, self._at = "", 0  # what is held of the text, and the place in it
        self._counted, self._lines = 0, 1  # the line number at a place in what is held
        self._ended = False

    def is_list(self) -> bool:
        """Whether the text is a list; if so its bracket is passed."""
        self.in_list = self.peek() == "["
        self._at += self.in_list
        return self.in_list

    def elements(self) -> Iterator[Any]:
        """The values of a list whose bracket is passed."""
        if self.peek() != "]":
            yield self._value()
            while self.peek() == ",":
                self._at += 1
                yield self._value()
        if self.peek() != "]":
            raise self._not_json("a comma or the closing ] is missing", self._at)
        self._at += 1
        if self.peek():
            raise self._not_json("text after the end of the list", self._at)

    def sequence(self) -> Iterator[Any]:
        """The values of a text that has one after another."""
        while character := self.peek():
            if character == "," and self.number:
                remedy = "take the commas off, or put [ ] around them all"
                raise self._error("a comma after an object that is in no list", remedy, self._at)
            yield self._value()

    def peek(self) -> str:
        """The next character that is not space; "" at the end."""
        while True:
            match = _SPACE.match(self._held, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._read():
                return ""

    def _value(self) -> Any:
        self.peek()
        self.number += 1
        while True:
            try:
                value, end = self.decoder.value_at(self._held, self._at)
            except json.JSONDecodeError as error:
                # Of a string without its end the place is where it begins.
                cut = error.msg.startswith("Unterminated") or self._near_end(error.pos)
                if cut and self._read():
                    continue
                raise self._not_json(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._error("nested too deeply", _NEEDED, self._at) from error
            # A number that ends where the held text ends may go on.
            if isinstance(value, (dict, list, str)) or not (self._near_end(end) and self._read()):
                break
        self._refuse_long(end)
        self.where = self._place(self._line_at(self._at))
        self._at = end
        return value

    def _near_end(self, place: int) -> bool:
        return place > len(self._held) - _LONGEST_TOKEN

    def _refuse_long(self, end: int) -> None:
        if end - self._at > self.file.limit:
            raise self._error(f"a value of over {self.file.size}", f"{_NEEDED}, each below that", self._at)

    def _read(self) -> bool:
        """Hold more of the text: twice as much of an unfinished value, so that a long one is parsed few times.

        Returns False at the end of the file.
        """
        if self._ended:
            return False
        self._refuse_long(len(self._held))
        data = self.file.stream.read(max(_CHUNK, len(self._held) - self._at))
        try:
            more = self._utf8.decode(data, final=not data)
        except UnicodeDecodeError as error:
            self._held += error.object[: error.start].decode()
            reason = f"not UTF-8 text (byte 0x{error.object[error.start]:02x})"
            raise self._error(reason, "save the file as UTF-8", len(self._held)) from error
        self._ended = not data
        if data:
            self._lines = self._line_at(self._at)
            self._held, self._at, self._counted = self._held[self._at :] + more, 0, 0
        return not self._ended

    def _line_at(self, place: int) -> int:
        self._lines += self._held.count("\n", self._counted, place)
        self._counted = place
        return self._lines

    def _not_json(self, message: str, place: int) -> UserError:
        culprits = {
            "\ufeff": "a byte order mark inside the file: were files joined?",
            "\0": "a NUL byte",
            "/": "a comment, which JSON does not have",
        }
        message = culprits.get(self._held[place : place + 1], message)
        return self._error(f"not JSON ({message})", _NEEDED, place)

    def _error(self, reason: str, remedy: str, place: int) -> UserError:
        where = self._place(self._lines + self._held.count("\n", self._counted, place))
        return UserError(f"{where}: {reason}: {remedy}")

    def _place(self, line: int) -> str:
        return f"{self.file.path}, {f'element {self.number}, ' if self.in_list and self.number else ''}line {line}"
