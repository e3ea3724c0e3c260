"""What the name of a source leads to: files, or tables of the datasets library."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass, field
from pathlib import Path

from tasks.reading import hub
from tasks.reading.files import format_of
from tasks.reading.splits import data_files, require_once
from trlx.utils.errors import UserError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
_RELATIVE = "data paths are relative to the current folder"


@dataclass(frozen=True)
class Place:
    """Where the data of a source lie.

    Args:
        source: as it was given.
        files: its data files; `folder` is theirs if that was given and not they themselves, and `prefix` begins their
            names.
        tables: by the names of their splits, in place of files.
    """

    source: str
    files: list[Path] = field(default_factory=list)
    tables: hub.Tables = field(default_factory=dict)
    folder: str = ""
    prefix: str = ""


def locate(source: str) -> Place:
    """Look a source up, in the order that `open_source` names. Raises: UserError when it leads nowhere."""
    if not source.strip("\0 "):
        raise UserError("no data source given: name a file, a folder or a hub id")
    if "\0" in source:
        raise UserError(f"{source!r}: no path has a NUL character: check the path")
    try:
        return _local(source) or _remote(source)
    except (
        OSError,
        RuntimeError,
        UnicodeError,
    ) as error:  # a folder that may not be entered; "~nobody"; half characters
        raise UserError(f"{source!r} cannot be looked up ({error}): check the path") from error


def _local(source: str) -> Place | None:
    path = Path(source).expanduser()
    if path.is_file():
        return Place(source, [path])
    if path.is_dir():
        if hub.is_saved(path):
            return Place(source, tables=hub.saved_tables(path))
        return Place(source, data_files(path), folder=str(path))
    prefix = path.name + "_"
    if files := data_files(path.parent, prefix):
        return Place(source, files, folder=str(path.parent), prefix=prefix)
    return Place(source, _several(source)) if "," in source or _is_pattern(source) else None


def _remote(source: str) -> Place:
    if format_of(Path(source)) or not _HUB_ID.fullmatch(source):
        raise UserError(f"no such file or directory: {source} ({_RELATIVE})")
    return Place(source, tables=hub.hub_tables(source))


def _is_pattern(source: str) -> bool:
    return any(character in source for character in "*?[")


def _several(source: str) -> list[Path]:
    """The files of a list with commas, each a file or a pattern; a file named twice is read once."""
    files: list[Path] = []
    for part in map(str.strip, source.split(",")):
        path = Path(part).expanduser()
        found = sorted(glob.glob(str(path), recursive=True)) if _is_pattern(part) else []
        fitting = [item for item in map(Path, found) if format_of(item) and item.is_file()]
        require_once(fitting, part)
        fitting = [path] if path.is_file() else fitting
        if not fitting:
            what = "no data file fits the pattern" if _is_pattern(part) else "no such file"
            raise UserError(f"{what}: {part} ({_RELATIVE})")
        files += fitting
    return list(dict.fromkeys(files))
