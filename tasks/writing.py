"""Files of rows: JSONL, CSV or Parquet, each also packed with gzip, written row by row, whole or not at all.

The header of a CSV and the types of a Parquet file depend on all rows; so that none need stay in memory, their rows go
through a nameless file on the same disk first. Cells are written as they are, also those that a spreadsheet would take
for formulas: this is data, for programs to read again.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import gzip
import io
import itertools
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tasks.aside import replacing_file
from tasks.reading.columns import kind_of
from tasks.reading.rows import RawRow, Row
from trlx.utils.errors import UserError

BLOCK = 1000  # rows of a Parquet row group
_PLAIN = (datetime.date, datetime.time, decimal.Decimal, uuid.UUID)  # written as text


def output_format(path: Path) -> str:
    """The format that the name of a file to be written says. Raises: UserError for another."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in _WRITERS:
        raise UserError(f"{path}: the name must end in {', '.join(_WRITERS)} (each also .gz), which says the format")
    return suffix


def write_rows(path: Path, rows: Iterable[RawRow]) -> int:
    """Write a file in the format that its name says.

    Args:
        path: an older file is replaced once the new one is whole.
        rows: are taken one by one; what they raise leaves no file behind.

    Returns: how many there were.
    Raises: UserError for values that the format cannot hold, naming the row, and for a disk that cannot be written.
    """
    write = _WRITERS[output_format(path)]
    with replacing_file(path) as file, _packed(file, path) as packed:
        try:
            return write(packed, rows, path)
        except UnicodeEncodeError as error:
            raise UserError(f"{path}: half a character (a lone surrogate) in a column: write .jsonl") from error


def _packed(file: IO[bytes], path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    if not path.name.lower().endswith(".gz"):
        return contextlib.nullcontext(file)
    # Without name and time, so that the same rows make the same file.
    packed: Any = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return packed


# ---------------------------------------------------------------- formats


def _write_jsonl(file: IO[bytes], rows: Iterable[RawRow], path: Path) -> int:
    count = 0
    for row in rows:
        file.write(_json_line(row))
        count += 1
    return count


def _write_csv(file: IO[bytes], rows: Iterable[RawRow], path: Path) -> int:
    columns: dict[str, None] = {}
    with _spooled(path, _flat(rows, columns)) as (count, again):
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, list(columns))
        writer.writeheader()
        writer.writerows(again())
        text.flush()
        text.detach()
    return count


def _flat(rows: Iterable[RawRow], columns: dict[str, None]) -> Iterator[RawRow]:
    """The rows, none of which has a nested value; their columns are noted."""
    for row in rows:
        for name, value in row.values.items():
            if isinstance(value, list | tuple | dict):
                what = f"column '{name}' holds {kind_of(value)}, which CSV cannot"
                raise UserError(f"{row.where}: {what}: write .jsonl or .parquet")
        columns.update(dict.fromkeys(row.values))
        yield row


def _write_parquet(file: IO[bytes], rows: Iterable[RawRow], path: Path) -> int:
    import pyarrow
    import pyarrow.parquet

    with _spooled(path, rows) as (count, again):
        try:
            # A block's rows need not have the same columns, nor two blocks: each is a struct of all that occur.
            types = [pyarrow.schema(pyarrow.infer_type(block)) for block in _blocks(again())]
            schema = pyarrow.unify_schemas(types, promote_options="permissive")
            with pyarrow.parquet.ParquetWriter(file, schema) as writer:
                for block in _blocks(again()):
                    writer.write_table(pyarrow.Table.from_pylist(block, schema=schema))
        except (pyarrow.ArrowException, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: the rows do not fit into one table ({reason}): write .jsonl") from error
    return count


_WRITERS: dict[str, Callable[[IO[bytes], Iterable[RawRow], Path], int]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
ENDINGS = tuple(kind + packed for kind in _WRITERS for packed in ("", ".gz"))


# ---------------------------------------------------------------- rows on the way


@contextlib.contextmanager
def _spooled(path: Path, rows: Iterable[RawRow]) -> Iterator[tuple[int, Callable[[], Iterator[Row]]]]:
    """Take all rows, then yield how many there were and a function that gives them again."""
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        count = _write_jsonl(spool, rows, path)

        def again() -> Iterator[Row]:
            spool.seek(0)
            return (json.loads(line) for line in spool)

        yield count, again


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def _json_line(row: RawRow) -> bytes:
    """The row as JSON. Raises: UserError naming it for a value that JSON does not know."""

    def plain(value: Any) -> str:
        if isinstance(value, _PLAIN):
            return str(value)
        raise UserError(f"{row.where}: a value is {kind_of(value)}, which cannot be written: leave its column out")

    try:
        return json.dumps(row.values, ensure_ascii=False, default=plain).encode() + b"\n"
    except UnicodeEncodeError:  # half a character, which only an escape can hold
        return json.dumps(row.values, default=plain).encode() + b"\n"
