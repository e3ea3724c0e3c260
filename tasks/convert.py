"""Posts or pairs of any known format written in another.

    python -m tasks convert --data data/tldr_3_filtered --to carperai-posts --out data/tldr
    python -m tasks convert --data 'comparisons/batch*.json' --split train --to trl-chat-pairs --out pairs.parquet

What is written is what the stages would use: clean texts (`tasks.text`), without pairs whose summaries are the same or
under five words. Other columns, such as batch, confidence and worker, go along. One file is written, or a folder with
a file for each split, beside what else is there; at its place the old stands until the new is whole.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks.arguments import with_data_named
from tasks.aside import filling_folder, naming_disk_errors
from tasks.reading.columns import check_columns
from tasks.reading.content import Files
from tasks.reading.files import format_of
from tasks.reading.formats import Format, get_format, recognise
from tasks.reading.rows import BadRow, BadRows, OnBadRows, RawRow, Skipped, stop
from tasks.reading.sources import open_source, splits_of
from tasks.reading.splits import stem
from tasks.records import Pair, PairCounts, Post
from tasks.tldr import TASK
from tasks.writing import ENDINGS, output_format, write_rows
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError

ABOUT = "Write posts or pairs in another format."
_NAME = re.compile(r"\w[\w .+-]*")


@dataclass
class ConvertOptions:
    """Options of `convert`.

    Args:
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz); may also be
            given first, without `--data`.
        to: the format to write: for posts carperai-posts, openai-posts, trl-completions, trl-chat-completions; for
            pairs carperai-pairs, openai-comparisons, pairs (TRL's), trl-chat-pairs, implicit-pairs.
        out: a file ending in .jsonl, .csv or .parquet (also .gz), or a folder, for a file of each split.
        split: the split to read; null for all.
        files: ending of the files in a folder.
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used or written, or skip such rows and count them.
        limit: the first so many rows of each split; null for all.
        overwrite: replace the file, or in a folder those of the splits that are written.
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
    splits = _splits(options, in_folder)
    targets = {split: _file_of(split or "", options.files) if in_folder else out for split in splits}
    for target in targets.values():
        if output_format(target) == ".csv" and form.nested:
            raise UserError(f"{form.name} has nested values, which CSV cannot hold: write .jsonl or .parquet")
    before = _check_place(out, list(targets.values()), options)
    _check_apart(options, out.resolve(), splits)
    outcome = Outcome(kept=[path.name for path in before.kept])
    with filling_folder(out, before.replaced) if in_folder else contextlib.nullcontext(Path()) as folder:
        for split, target in targets.items():
            outcome.written[split or "all"] = write_rows(folder / target, _rows(options, form, split, outcome))
    return outcome


def _checked(options: ConvertOptions) -> Format:
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
    return get_format(options.to)


def _splits(options: ConvertOptions, in_folder: bool) -> list[str | None]:
    """The splits to convert; None is the only, nameless one."""
    column = options.columns.get("split", "split")
    found = [options.split] if options.split else splits_of(options.data, column)
    if in_folder and not found:
        raise UserError(f"{options.out}: {options.data} is one set without splits: name a file, as in OUT.jsonl")
    if not in_folder and len(found) > 1:
        raise UserError(
            f"{options.out}: {options.data} has splits ({', '.join(found)}): choose one with --split, "
            "or name a folder as --out for all of them"
        )
    return list(found) or [None]


def _file_of(split: str, ending: str) -> Path:
    if not _NAME.fullmatch(split):
        raise UserError(
            f"split {split!r} cannot be the name of a file: convert it with --split to a file of your choice"
        )
    return Path(split + ending)


# ---------------------------------------------------------------- places


@dataclass(frozen=True)
class _Before:
    """Data files that a folder holds: those that are replaced, and those that stay."""

    replaced: Sequence[Path] = ()
    kept: Sequence[Path] = ()


def _check_place(out: Path, targets: Sequence[Path], options: ConvertOptions) -> _Before:
    """What is there. Raises: UserError when it may not be replaced."""
    with naming_disk_errors(out):
        if out.is_dir() and not format_of(out):
            return _check_folder(out, targets, options)
        if out.is_dir() or (out.exists() and not format_of(out)):
            raise UserError(f"{out} is a {'folder' if out.is_dir() else 'file'}: name another place")
        if out.exists() and not options.overwrite:
            raise UserError(f"{out} exists already: add --overwrite to replace it")
    return _Before()


def _check_folder(out: Path, targets: Sequence[Path], options: ConvertOptions) -> _Before:
    """Only files that convert itself may have written make way: others that would be read with the new ones bar it."""
    found = [path for path in sorted(out.iterdir()) if not path.name.startswith(".")]
    foreign = [path.name for path in found if not (path.is_file() and format_of(path))]
    if foreign:
        raise UserError(f"{out} holds other things than data files ({foreign[0]}): name a new folder")
    stems = {stem(target) for target in targets}
    replaced = [path for path in found if path.name in {name + ending for name in stems for ending in ENDINGS}]
    others = [path for path in found if path not in replaced]
    barring = [path.name for path in others if options.split is None or stem(path) in stems]
    if barring:
        raise UserError(
            f"{out} holds {', '.join(barring)}, which would be read along with what is written: "
            "take it out first, or name a new folder"
        )
    if replaced and not options.overwrite:
        raise UserError(f"{replaced[0]} exists already: add --overwrite to replace it")
    return _Before(replaced, others)


def _check_apart(options: ConvertOptions, out: Path, splits: Sequence[str | None]) -> None:
    """Raises: UserError when the output is where the data are read from, or would be."""
    column = options.columns.get("split", "split")
    contents = [open_source(options.data, split, column).content for split in splits]
    read = [path.resolve() for content in contents if isinstance(content, Files) for path in content.paths]
    source = Path(options.data).expanduser().resolve()
    if any(path.is_relative_to(out) for path in [*read, source]):
        raise UserError(f"{out} is what --data reads: name another place for --out")
    beside = out.parent in (source, source / "data")
    prefixed = not source.exists() and out.parent in {path.parent for path in read} and out.name.startswith(source.name)
    if format_of(out) and (beside or prefixed):
        raise UserError(f"{out} would be read as part of {options.data} the next time: name another place for --out")


# ---------------------------------------------------------------- rows


def _rows(options: ConvertOptions, form: Format, split: str | None, outcome: Outcome) -> Iterator[RawRow]:
    """The rows to write, of one split. Raises: UserError also when there are none."""
    on_bad = outcome.skipped if options.bad_rows == "skip" else stop
    about: dict[str, Any] = {"limit": options.limit, "columns": options.columns, "on_bad": on_bad}
    counts = PairCounts()
    records: Iterable[Post | Pair]
    if form.kind == "posts":
        records = TASK.iter_posts(options.data, split, **about)
    else:
        records = TASK.iter_pairs(options.data, split, counts=counts, **about)
    bar = tqdm(records, desc=f"convert: {split or 'rows'}", unit=f" {form.kind}", leave=False, disable=None)
    row = None
    for row in _written(bar, form, on_bad):
        yield row
    dropped = {"identical": counts.identical, "under 5 words": counts.short}
    outcome.dropped.update({why: count for why, count in dropped.items() if count})
    if row is None:
        where = f"{options.data}, split '{split}'" if split else options.data
        raise UserError(f"{where}: no row is left to write ({outcome}): give other data; nothing was written")


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
