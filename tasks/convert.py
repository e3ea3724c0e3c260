"""Posts, pairs or instructions of any known format written in another.

    python -m tasks convert --data data/tldr_3_filtered --to carperai-posts --out data/tldr
    python -m tasks convert --data 'comparisons/batch*.json' --split train --to trl-chat-pairs --out pairs.parquet
    python -m tasks convert oasst_trees.jsonl.gz --lang en --to instruction-pairs --out pairs.jsonl

What is written is what the stages would use: clean texts (`tasks.text`), without pairs whose summaries are the same or
under five words. Other columns, such as batch, confidence and worker, go along, but not with instructions, whose three
formats are those of `tasks.instruct`. One file is written, or a folder with a file for each split, beside what else is
there; at its place the old stands until the new is whole.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks.arguments import with_data_named
from tasks.aside import filling_folder
from tasks.instructions.example import Choice, Rejected, Turns
from tasks.instructions.sources import examples_of
from tasks.instructions.targets import TARGETS, Target, written
from tasks.placing import check_apart, check_place, file_of, splits_to_write
from tasks.reading.columns import check_columns
from tasks.reading.files import format_of
from tasks.reading.formats import Format, get_format, recognise
from tasks.reading.rows import BadRow, BadRows, OnBadRows, RawRow, Skipped, choose_on_bad
from tasks.reading.sources import open_source
from tasks.records import Pair, PairCounts, Post
from tasks.tldr import TASK
from tasks.writing import output_format, write_rows
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError

ABOUT = "Write posts, pairs or instructions in another format."


@dataclass
class ConvertOptions:
    """Options of `convert`.

    Args:
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz); may also be
            given first, without `--data`.
        to: the format to write: for posts carperai-posts, openai-posts, trl-completions, trl-chat-completions; for
            pairs carperai-pairs, openai-comparisons, pairs (TRL's), trl-chat-pairs, implicit-pairs; of instructions
            (Dolly's, Alpaca's, OASST's, rm-static's): instructions, instruction-pairs, instruction-prompts.
        out: a file ending in .jsonl, .csv or .parquet (also .gz), or a folder, for a file of each split.
        split: the split to read; null for all.
        files: ending of the files in a folder.
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used or written, or skip such rows and count them.
        limit: the first so many rows of each split (of OASST: instructions); null for all.
        overwrite: replace the file, or in a folder those of the splits that are written.
        lang: of OASST: only messages in this language, e.g. en; null for all.
        turns: of OASST: instructions from the first message of a conversation alone, or from all turns, as dialogues.
        rejected: of OASST's ranked answers: the best against the worst, or against each worse one.
    """

    data: str = ""
    to: str = ""
    out: str = ""
    split: str | None = None
    files: str = ".jsonl"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    limit: int | None = None
    overwrite: bool = False
    lang: str | None = None
    turns: Turns = "first"
    rejected: Rejected = "worst"


@dataclass
class Outcome:
    """What became of the rows.

    Args:
        written: rows of each split. skipped: those that could not be used or written.
        dropped: pairs that teach nothing. kept: data files of other splits that the folder had before.
    """

    written: dict[str, int] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    dropped: Counter[str] = field(default_factory=Counter)
    kept: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = sum(self.written.values())
        splits = ", ".join(f"{name} {count}" for name, count in self.written.items())
        parts = [f"{total} written" + (f" ({splits})" if len(self.written) > 1 else "")]
        parts += [f"dropped: {', '.join(f'{n} {why}' for why, n in self.dropped.items())}"] if self.dropped else []
        parts += [str(self.skipped)] if self.skipped.counts else []
        return "; ".join([*parts, *([f"kept beside: {', '.join(self.kept)}"] if self.kept else [])])


def convert(options: ConvertOptions) -> Outcome:
    """Read, write, count.

    Raises: UserError for options and data that cannot be used, and for an output that exists or is read from.
    """
    form, out = _checked(options), Path(options.out).expanduser()
    in_folder = not format_of(out)
    splits = splits_to_write(options, in_folder)
    targets = {split: file_of(split or "", options.files) if in_folder else out for split in splits}
    for target in targets.values():
        if output_format(target) == ".csv" and form.nested:
            raise UserError(f"{form.name} has nested values, which CSV cannot hold: write .jsonl or .parquet")
    before = check_place(out, list(targets.values()), options)
    check_apart(options, out.resolve(), splits)
    outcome = Outcome(kept=[path.name for path in before.kept])
    with filling_folder(out, before.replaced) if in_folder else contextlib.nullcontext(Path()) as folder:
        for split, target in targets.items():
            outcome.written[split or "all"] = write_rows(folder / target, _rows(options, form, split, outcome))
    return outcome


def _checked(options: ConvertOptions) -> Format | Target:
    """The format to write. Raises: UserError for options that make no sense."""
    for name in ("data", "to", "out"):
        if not getattr(options, name):
            raise UserError("--data, --to and --out are needed: what to read, the format, and where to write")
    check_columns(options.columns)
    if not options.files.startswith("."):
        raise UserError(f"--files is the ending of a name, as in .jsonl, not {options.files!r}")
    out = Path(options.out).expanduser()
    if out.suffix[1:].isalpha() and not out.is_dir():  # a misspelt ending; a folder's name may be like "tldr.2"
        output_format(out)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}: leave it out for all rows")
    return TARGETS.get(options.to) or get_format(options.to, also=TARGETS)


# ---------------------------------------------------------------- rows


def _rows(options: ConvertOptions, form: Format | Target, split: str | None, outcome: Outcome) -> Iterator[RawRow]:
    """The rows to write, of one split. Raises: UserError also when there are none."""
    parts = options, split, outcome
    rows = _instructions(form, *parts) if isinstance(form, Target) else _records(form, *parts)
    bar = tqdm(desc=f"convert: {split or 'rows'}", unit=f" {form.kind}", leave=False, disable=None)
    row = None
    with bar:
        for row in rows:
            bar.update()
            yield row
    if row is None:
        where = f"{options.data}, split '{split}'" if split else options.data
        raise UserError(f"{where}: no row is left to write ({outcome}): give other data; nothing was written")


def _instructions(target: Target, options: ConvertOptions, split: str | None, outcome: Outcome) -> Iterator[RawRow]:
    choice = Choice(
        choose_on_bad(options.bad_rows, outcome.skipped), options.lang, options.turns, options.rejected, options.limit
    )
    choice.dropped = outcome.dropped
    rows = open_source(options.data, split, options.columns.get("split", "split")).rows(choice.on_bad)
    return written(examples_of(rows, options.columns, target.compares, choice), target, choice)


def _records(form: Format, options: ConvertOptions, split: str | None, outcome: Outcome) -> Iterator[RawRow]:
    on_bad = choose_on_bad(options.bad_rows, outcome.skipped)
    about: dict[str, Any] = {"limit": options.limit, "columns": options.columns, "on_bad": on_bad}
    if form.kind == "posts":
        yield from _written(TASK.iter_posts(options.data, split, **about), form, on_bad)
        return
    counts = PairCounts()
    yield from _written(TASK.iter_pairs(options.data, split, counts=counts, **about), form, on_bad)
    dropped = {"identical": counts.identical, "under 5 words": counts.short}
    outcome.dropped.update({why: count for why, count in dropped.items() if count})


def _written(records: Iterable[Post | Pair], form: Format, on_bad: BadRows) -> Iterator[RawRow]:
    for record in records:
        where = record.where or record.id
        try:
            row = RawRow(form.write(record), where)
        except BadRow as bad:
            on_bad(bad)
            continue
        read_as = recognise(row.values, form.kind, where)
        if read_as.columns != form.columns:
            extra = [name for name in read_as.columns if name not in form.columns]
            raise UserError(
                f"{where}: with a column '{extra[0]}' beside those of {form.name} it would be read as {read_as.name}: "
                "take that column out first"
            )
        yield row


def main(argv: Sequence[str]) -> None:
    """The command."""
    options = parse_config(ConvertOptions, ABOUT, with_data_named(argv))
    outcome = convert(options)
    print(f"{options.out}: {options.to}, {outcome}")
