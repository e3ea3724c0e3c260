"""Rows from Parquet, a few at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tasks.reading.opening import Opened
from tasks.reading.rows import SKIP, BadRow, BadRows, RawRow, Row
from trlx.utils.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

_BATCH_ROWS = 512
_BATCH_BYTES = 2**23


def iter_parquet(file: Opened, on_bad: BadRows) -> Iterator[RawRow]:
    """Every row, columns as Python values; `where` counts rows from 1."""
    stream: Any = file.stream
    with tempfile.TemporaryFile() if file.path.name.lower().endswith(".gz") else stream as plain:
        if plain is not stream:  # Parquet is read from its end, which a packed file has to be unpacked for
            shutil.copyfileobj(stream, plain)
            plain.seek(0)
        number = 0
        for batch in _batches(file, plain):
            _refuse_long(batch, number, file)
            for values in _values(batch):
                number += 1
                where = f"{file.path}, row {number}"
                if isinstance(values, Exception):
                    on_bad(BadRow(where, "not readable", f"write the file anew, {SKIP}", _first_line(values)))
                else:
                    yield RawRow(values, where)


def _batches(file: Opened, plain: Any) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow.parquet

    try:
        # Page by page; else a whole row group is read at once, and files often have only one.
        parquet = pyarrow.parquet.ParquetFile(plain, buffer_size=2**20, pre_buffer=False)
        _check_names(parquet.schema_arrow.names, file)
        yield from parquet.iter_batches(batch_size=_batch_rows(parquet.metadata))
    except UserError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise a dozen classes
        raise UserError(
            f"{file.path}: not a whole Parquet file ({_first_line(error)}): write or fetch it anew"
        ) from error


def _check_names(names: list[str], file: Opened) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{file.path}: {count} columns are called '{name}': rename them")


def _batch_rows(metadata: pyarrow.parquet.FileMetaData) -> int:
    """So many rows that a batch is a few megabytes where rows are long."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * metadata.num_rows // max(size, 1)))


def _refuse_long(batch: pyarrow.RecordBatch, before: int, file: Opened) -> None:
    if batch.nbytes > file.limit:
        for row in range(batch.num_rows):
            if batch.slice(row, 1).nbytes > file.limit:
                raise UserError(f"{file.path}, row {before + row + 1} is over {file.size}: drop rows of that size")


def _values(batch: pyarrow.RecordBatch) -> list[Row | Exception]:
    """The rows of a batch; for one that has no Python value (bytes that are not UTF-8, a year 99999) the error."""
    try:
        return batch.to_pylist()
    except Exception:  # as above
        return [_row(batch.slice(row, 1)) for row in range(batch.num_rows)]


def _row(batch: pyarrow.RecordBatch) -> Row | Exception:
    try:
        return batch.to_pylist()[0]
    except Exception as error:
        return error


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split()) or type(error).__name__
