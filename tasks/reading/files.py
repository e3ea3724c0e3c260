"""One data file, row by row: JSONL, JSON, CSV, TSV or Parquet, each also packed with gzip.

A row is in memory only while it is looked at, and none may be over `MAX_LINE_BYTES`, so a file of any size is read in
the same few megabytes. Files are parsed here rather than by the datasets library, so that a mistake is named by its
line and nothing is written to a cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.reading.csv_rows import iter_csv
from tasks.reading.json_rows import iter_json, iter_jsonl
from tasks.reading.opening import Opened, opened
from tasks.reading.parquet_rows import iter_parquet
from tasks.reading.rows import BadRows, RawRow, stop
from trlx.utils.errors import UserError

MAX_LINE_BYTES = 16 * 2**20

_READERS: dict[str, Callable[[Opened, BadRows], Iterator[RawRow]]] = {
    ".jsonl": iter_jsonl,
    ".json": iter_json,
    ".csv": iter_csv,
    ".tsv": functools.partial(iter_csv, delimiter="\t"),
    ".parquet": iter_parquet,
}


def format_of(path: Path) -> str | None:
    """The format that a file's name says, e.g. ".jsonl" for `x.jsonl.gz`; None when it is no data file."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in _READERS else None


def iter_file(path: Path, on_bad: BadRows = stop) -> Iterator[RawRow]:
    """The rows of a file, in its order, with the columns and values that it has.

    `where` of a row names its line: `x.jsonl, line 3`; of a list in a `.json` `x.json, element 2, line 7`; of Parquet
    `x.parquet, row 3`. Lines, elements and rows are counted from 1, CSV's header too.

    Args:
        path: a file; its name says the format.
        on_bad: gets what is wrong with single rows (broken, not UTF-8, NUL bytes, ragged), which are then left out.

    Raises: UserError for what is wrong with the file (missing, not what its name says, torn, over-long lines), and
        whatever `on_bad` raises.
    """
    kind = format_of(path)
    if kind is None:
        raise UserError(f"{path}: unknown kind of data file; known: {', '.join(_READERS)}, each also .gz")
    with opened(path, MAX_LINE_BYTES) as file:
        yield from _READERS[kind](file, on_bad)
