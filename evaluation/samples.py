"""CSV files of generated summaries with their scores, safe to open in a spreadsheet.

UTF-8 without a byte-order mark (pandas and the csv module take it as it is; in Excel import it through Data > From
Text). Every text cell is quoted, numbers are not, lines end "\\n"; line breaks inside a cell are kept as they are.
A cell that a spreadsheet would run as a formula (OWASP, "CSV Injection": = + - @, tab, CR, LF, also full-width, also
after white space) gets a leading apostrophe; so does a cell that already looks like one so treated, which makes the
treatment reversible: `read_samples` takes exactly one apostrophe off again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trlx.utils.errors import UserError
from trlx.utils.files import write_text
from trlx.utils.spreadsheet import neutralise, restore


@dataclass(frozen=True)
class SampleRow:
    """One summary beside its reference; gold_* are None where the task has no gold score, second_* without a second
    reward model."""

    pred: str
    truth: str
    post: str  # the prompt as the model read it
    score_pred: float
    score_truth: float
    rouge1: float
    rouge2: float
    rougeL: float
    gold_pred: float | None
    gold_truth: float | None
    id: str
    ended: bool  # False: cut at the limit, no end-of-sequence token
    tokens: int  # of the response, EOS included
    faults: str  # names of `evaluation.degeneration`, a space between two; empty where there are none
    rouge1_stemmed: float
    rouge2_stemmed: float
    rougeL_stemmed: float
    second_pred: float | None = None
    second_truth: float | None = None


COLUMNS = tuple(SampleRow.__dataclass_fields__)
_TEXT = ("pred", "truth", "post", "id", "faults")
_OPTIONAL = ("gold_pred", "gold_truth", "second_pred", "second_truth")
_ENDED = {"true": True, "false": False}  # spreadsheets save them in capitals
_ANEW = ": trlx_inference_gptneo.py writes it anew"
_REQUIRED = tuple(name for name in COLUMNS if name not in _OPTIONAL)


def write_samples(path: str | Path, rows: Iterable[SampleRow]) -> None:
    """Write the CSV whole or not at all; an optional column is left out when no row has it."""
    rows = list(rows)
    columns = [name for name in COLUMNS if name in _REQUIRED or any(getattr(row, name) is not None for row in rows)]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(getattr(row, name)) for name in columns] for row in rows)
    write_text(path, buffer.getvalue())


def _cell(value: str | int | float | bool | None) -> str | int | float:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    return neutralise(value) if isinstance(value, str) else value


def read_samples(path: str | Path) -> list[SampleRow]:
    """The rows that `write_samples` wrote, apostrophes taken off again; further columns are ignored.

    Raises: UserError for a missing file or column, a byte that is no UTF-8, a file cut inside a cell, or a cell that
    is no number, naming the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; trlx_inference_gptneo.py writes it")
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""), strict=True)
    try:
        missing = [name for name in _REQUIRED if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(f"{path}: column {', '.join(missing)} missing{_ANEW}")
        return [_parse(cells, f"{path}, line {reader.line_num}") for cells in reader]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.reader.line_num}: no CSV ({error}){_ANEW}") from error


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: byte {error.object[error.start]:#04x} is no UTF-8{_ANEW}") from error


def _parse(cells: dict[str, str], where: str) -> SampleRow:
    if None in cells.values():
        raise UserError(f"{where}: the row is cut short{_ANEW}")
    texts = {name: restore(cells[name]) for name in _TEXT}
    numbers: dict[str, float | None] = {}
    for name in COLUMNS:
        if name in _TEXT or name == "ended":
            continue
        try:
            numbers[name] = float(cells[name]) if cells.get(name) else None
        except ValueError as error:
            raise UserError(f"{where}: column {name} holds {cells[name]!r}, not a number{_ANEW}") from error
        if numbers[name] is None and name in _REQUIRED:
            raise UserError(f"{where}: column {name} is empty, not a number{_ANEW}")
    tokens = numbers.pop("tokens") or 0.0
    if not tokens.is_integer():
        raise UserError(f"{where}: column tokens holds {cells['tokens']!r}, not a whole number{_ANEW}")
    ended = _ENDED.get(cells["ended"].casefold())
    if ended is None:
        raise UserError(f"{where}: column ended holds {cells['ended']!r}, neither true nor false{_ANEW}")
    return SampleRow(**texts, **numbers, tokens=int(tokens), ended=ended)  # type: ignore[arg-type]
