"""Rows from CSV, and from TSV, its sister with tabs: a header with the columns' names, then a row a line or several."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator

from tasks.reading.opening import Opened, skip_mark, text_of
from tasks.reading.rows import SKIP, BadRow, BadRows, RawRow
from tasks.text import PROMPT_END
from trlx.utils.errors import UserError

_LONGEST_NAME = 200  # characters; a header with a longer "name" is a row of data
_MANY_WORDS = 12  # likewise
_OTHER_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def iter_csv(file: Opened, on_bad: BadRows, delimiter: str = ",") -> Iterator[RawRow]:
    """Every row under its header, as text; a row's `where` is the line in which it begins."""
    skip_mark(file)
    # The library's own limit holds for the whole process: it is only ever raised, `_Lines` sees to ours.
    csv.field_size_limit(max(csv.field_size_limit(), file.limit))
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(reader, lines, delimiter)
    while True:
        try:
            fields = next(reader, None) if lines.begin_row() else None
            if fields is None:
                return
            lines.require_text()
            if fields:
                yield RawRow(_named(header, fields, lines.where, delimiter), lines.where)
        except csv.Error as error:
            on_bad(lines.bad_row(error))
        except BadRow as bad:
            on_bad(bad)


class _Lines:
    """The lines of a file as the csv reader takes them, with what that cannot say of a row: where it begins, whether it
    is text, and that it is too long (which mostly means a quote that is never closed)."""

    def __init__(self, file: Opened) -> None:
        self.file = file
        self.where = str(file.path)
        self._lines = file.lines()
        self._number = self._size = 0
        self._bad: BadRow | None = None
        self._ended = False

    def begin_row(self) -> bool:
        """Forget the last row. Returns False when there is no line left."""
        self.where = f"{self.file.path}, line {self._number + 1}"
        self._size, self._bad = 0, None
        return not self._ended

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._ended = True
        self._number, line = next(self._lines)
        self._ended = False
        self._size += len(line)
        if self._size > self.file.limit:
            raise UserError(
                f'{self.where}: the row that begins here is over {self.file.size}: is a quote (") not closed?'
            )
        try:
            return text_of(line, f"{self.file.path}, line {self._number}")
        except BadRow as bad:
            # Kept for later: the reader must see the row's end, or the rest of the row would be taken for the next one.
            self._bad = self._bad or bad
            return line.replace(b"\0", b"?").decode(errors="replace")

    def require_text(self) -> None:
        """Raises: BadRow when a line of the row is not text."""
        if self._bad is not None:
            raise self._bad

    def bad_row(self, error: csv.Error) -> BadRow:
        """What the reader found wrong with the row. Raises: UserError when the row swallowed the rest of the file."""
        if self._ended:
            raise UserError(
                f'{self.where}: a quote (") of the row that begins here is not closed before the file ends: close it'
            ) from error
        if "new-line character" in str(error):
            return BadRow(
                self.where, "a carriage return alone", f"end lines with \\n or \\r\\n, quote the field, {SKIP}"
            )
        return BadRow(
            self.where, "malformed CSV", f'write " inside a quoted field as "", quote whole fields, {SKIP}', str(error)
        )


def _named(header: list[str], fields: list[str], where: str, delimiter: str) -> dict[str, str]:
    if len(fields) != len(header):
        detail = f"{len(fields)} fields, the header has {len(header)}"
        other = _separator(delimiter.join(header), delimiter.join(fields), delimiter)
        remedy = "quote fields that hold the delimiter"
        if other:
            remedy = f"the fields seem to be separated by {_OTHER_DELIMITERS[other]}: {_remedy(delimiter, other)}"
        raise BadRow(where, "another number of fields than the header", f"{remedy}, {SKIP}", detail)
    return dict(zip(header, fields, strict=True))


def _separator(header: str, row: str, delimiter: str) -> str:
    """Another delimiter that the header holds and of which the row has more than of the right one; "" for none."""
    others = [other for other in _OTHER_DELIMITERS if other != delimiter and other in header]
    return next((other for other in others if row.count(other) > row.count(delimiter)), "")


def _header(reader: Iterator[list[str]], lines: _Lines, delimiter: str) -> list[str]:
    """The names in the first line that is not empty; [] when there is none."""
    header: list[str] = []
    try:
        while not header and lines.begin_row():
            header = next(reader, [])
            lines.require_text()
    except (csv.Error, BadRow) as error:
        bad = error if isinstance(error, BadRow) else lines.bad_row(error)
        raise UserError(f"{bad}; this line must be the header with the columns' names") from error
    if header:
        _check_header(header, lines.where, delimiter)
    return header


def _check_header(header: list[str], where: str, delimiter: str) -> None:
    for place, name in enumerate(header, start=1):
        if _is_text(name):
            raise UserError(
                f"{where}: column {place} has no name but text: the first line must hold the columns' names, "
                f"as in prompt{delimiter}label: put them above it"
            )
        if not name.strip():
            raise UserError(
                f"{where}: column {place} has no name in the header: name it (pandas: to_csv(..., index=False))"
            )
    for other, called in _OTHER_DELIMITERS.items():
        if len(header) == 1 and other in header[0]:
            raise UserError(f"{where}: one column only, with {called} in its name: {_remedy(delimiter, other)}")
    name, count = Counter(header).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: {count} columns are called '{name}': rename them")


def _is_text(name: str) -> bool:
    """Whether a "name" of the header is a post or summary: a file without a header begins with a row of data."""
    words = len(name.split())
    sentence = words >= _MANY_WORDS // 2 and name.rstrip("\"' ").endswith((".", "!"))
    lines = not name.replace("\t", " ").isprintable()
    return len(name) > _LONGEST_NAME or words >= _MANY_WORDS or lines or sentence or (words > 1 and PROMPT_END in name)


def _remedy(delimiter: str, other: str) -> str:
    if other in ",\t":
        return f"name the file {'.csv' if other == ',' else '.tsv'}"
    return (
        f"write it with {_OTHER_DELIMITERS[delimiter]} (pandas: read_csv(OLD, sep='{other}').to_csv(NEW, index=False))"
    )
