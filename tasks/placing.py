"""Where a conversion writes: a file, or a folder with a file of each split; what is there and what may be replaced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.aside import naming_disk_errors
from tasks.reading.content import Files
from tasks.reading.files import format_of
from tasks.reading.sources import open_source, splits_of
from tasks.reading.splits import stem
from tasks.writing import ENDINGS
from trlx.utils.errors import UserError

_NAME = re.compile(r"\w[\w .+-]*")


class PlaceOptions(Protocol):
    """What the places depend on; of the same names in `tasks.convert.ConvertOptions`."""

    data: str
    out: str
    split: str | None
    columns: dict[str, str]
    overwrite: bool


def splits_to_write(options: PlaceOptions, in_folder: bool) -> list[str | None]:
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


def file_of(split: str, ending: str) -> Path:
    if not _NAME.fullmatch(split):
        raise UserError(
            f"split {split!r} cannot be the name of a file: convert it with --split to a file of your choice"
        )
    return Path(split + ending)


@dataclass(frozen=True)
class Before:
    """Data files that a folder holds: those that are replaced, and those that stay."""

    replaced: Sequence[Path] = ()
    kept: Sequence[Path] = ()


def check_place(out: Path, targets: Sequence[Path], options: PlaceOptions) -> Before:
    """What is there. Raises: UserError when it may not be replaced."""
    with naming_disk_errors(out):
        if out.is_dir() and not format_of(out):
            return _check_folder(out, targets, options)
        if out.is_dir() or (out.exists() and not format_of(out)):
            raise UserError(f"{out} is a {'folder' if out.is_dir() else 'file'}: name another place")
        if out.exists() and not options.overwrite:
            raise UserError(f"{out} exists already: add --overwrite to replace it")
    return Before()


def _check_folder(out: Path, targets: Sequence[Path], options: PlaceOptions) -> Before:
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
    return Before(replaced, others)


def check_apart(options: PlaceOptions, out: Path, splits: Sequence[str | None]) -> None:
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
