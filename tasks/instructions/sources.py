"""The sources of instructions that are known, and which of them rows are of, by their columns."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tasks.instruct import instruction_of
from tasks.instructions import oasst
from tasks.instructions.example import Answer, Choice, Example
from tasks.reading.columns import listed, mapped, text_or_none
from tasks.reading.formats import RowFormats
from tasks.reading.rows import BadRow, RawRow
from trlx.utils.errors import UserError

ReadRows = Callable[[Iterable[RawRow], Choice], Iterator[Example]]


@dataclass(frozen=True)
class Origin:
    """How rows of some origin hold instructions.

    Args:
        about: for people. columns: by which it is known. read: its rows → examples.
        compared: whether there may be several answers to an instruction, so that pairs can be made.
        spoken: whether it is of conversations, with languages.
    """

    about: str
    columns: tuple[str, ...]
    read: ReadRows
    compared: bool = False
    spoken: bool = False


def origin_of(row: RawRow) -> Origin:
    """What a first row is of. Raises: BadRow listing what is known."""
    for origin in ORIGINS:
        if set(origin.columns) <= row.values.keys():
            return origin
    known = "; ".join(f"{'+'.join(origin.columns)} ({origin.about})" for origin in ORIGINS)
    remedy = "rename the columns, or map them, as in --columns.instruction COLUMN"
    raise BadRow(row.where, f"instructions need the columns {known}", remedy, f"found {listed(row.values)}")


def _rowwise(read: Callable[[RawRow], Example]) -> ReadRows:
    """Of rows with an instruction each."""

    def examples(rows: Iterable[RawRow], choice: Choice) -> Iterator[Example]:
        for row in itertools.islice(rows, choice.limit):
            try:
                yield read(row)
            except BadRow as bad:
                choice.on_bad(bad)

    return examples


def _answered(context: str, answer: str) -> Callable[[RawRow], Example]:
    """Reads an instruction, what it is about, and the one answer to it, in columns of these names."""

    def read(row: RawRow) -> Example:
        answers = (Answer(text_or_none(row, answer) or ""),)
        return Example(_instruction(row), text_or_none(row, context) or "", answers, row.where)

    return read


def _compared(row: RawRow) -> Example:
    """Two answers, one preferred; the prompt stands apart, or at the beginning of both."""
    if "instruction" in row.values:
        rest = {name: value for name, value in row.values.items() if name != "instruction"}
        row = dataclasses.replace(row, values=rest | {"prompt": _instruction(row)})
    found = RowFormats("pairs", {}).of(row).read(row)
    context = text_or_none(row, "context") or ""
    return Example(found.prompt, context, (Answer(found.chosen, 0), Answer(found.rejected, 1)), row.where)


def _instruction(row: RawRow) -> str:
    text = instruction_of(row)
    if text is None:
        raise BadRow(row.where, "no column 'instruction'", "add it, or drop the row", f"columns: {listed(row.values)}")
    return text


# In the order in which they are tried.
ORIGINS = (
    Origin("OASST's messages", ("message_id", "parent_id", "role", "text"), oasst.of_messages, True, True),
    Origin("OASST's trees", ("message_tree_id", "prompt"), oasst.of_trees, True, True),
    Origin("rm-static's and hh-rlhf's pairs", ("chosen", "rejected"), _rowwise(_compared), True),
    Origin("Alpaca's", ("instruction", "output"), _rowwise(_answered("input", "output"))),
    Origin("Dolly's", ("instruction", "response"), _rowwise(_answered("context", "response"))),
)


def examples_of(
    rows: Iterable[RawRow], columns: Mapping[str, str], compares: bool, choice: Choice
) -> Iterator[Example]:
    """The examples of a source's rows.

    Args:
        columns: our name of a column → its name in the data. compares: whether several answers are wanted of each.

    Raises: UserError for rows of no known origin, and for one that cannot give what is wanted; and what
        `choice.on_bad` raises.
    """
    named = _named(rows, columns, choice)
    first = next(named, None)
    if first is None:
        return
    origin = origin_of(first)
    if compares and not origin.compared:
        raise UserError(
            f"{first.where}: {origin.about} rows have one answer each, of which no pair can be made: choose --to "
            "instructions or instruction-prompts"
        )
    if choice.lang and not origin.spoken:
        raise UserError(f"{first.where}: {origin.about} rows do not tell their language: leave --lang out")
    yield from origin.read(itertools.chain([first], named), choice)


def _named(rows: Iterable[RawRow], columns: Mapping[str, str], choice: Choice) -> Iterator[RawRow]:
    for row in rows:
        try:
            yield mapped(row, columns)
        except BadRow as bad:
            choice.on_bad(bad)
