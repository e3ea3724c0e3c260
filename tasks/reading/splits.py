"""Which files of a folder are which split: told by their names, or else by a column of their rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.reading.files import format_of
from trlx.utils.errors import UserError

_NAMES = re.compile(r"(train|training|valid|validation|val|dev|test|eval)\d*")
_ORDER = ("train", "val", "dev", "eval", "test")


def data_files(folder: Path, prefix: str = "") -> list[Path]:
    """Data files of a folder, or of its `data/` when itself has none, whose names begin so; no hidden ones."""
    for place in (folder, folder / "data"):
        try:
            entries = sorted(place.iterdir()) if place.is_dir() else []
        except OSError as error:
            raise UserError(f"{place}: cannot be read ({error.strerror}): mend that first") from error
        fitting = [item for item in entries if item.name.startswith(prefix) and not item.name.startswith(".")]
        if found := [item for item in fitting if format_of(item) and item.is_file()]:
            return found
    return []


def stem(path: Path) -> str:
    """`a/tldr_train-00000-of-00002.jsonl.gz` → `tldr_train`."""
    name = Path(path.name.lower().removesuffix(".gz")).stem
    return re.sub(r"-\d+-of-\d+$", "", path.name[: len(name)])


def names_a_split(path: Path) -> bool:
    """Whether a file is called after a split: `train.csv`, `tldr_valid2.jsonl`, not `batch3.json`."""
    return bool(_NAMES.fullmatch(stem(path).rpartition("_")[2]))


def is_plain(path: Path, prefix: str = "") -> bool:
    """Whether a file's whole name, but for the prefix, is that of a split: `train.csv`, not `edit_test.json`."""
    return bool(_NAMES.fullmatch(stem(path).removeprefix(prefix)))


def files_of_split(files: list[Path], place: str, prefix: str, split: str | None) -> list[Path]:
    """The files called after one split, shards of it all; the only set there is when no split is asked for.

    Args:
        files: those to choose from. place: where they lie, for messages. prefix: what all their names begin with.

    Raises: UserError when none or several sets fit.
    """
    stems = {stem(path) for path in files if split is None or fits(path, split, prefix)}
    # The plain name wins, so that a stray `old_train` beside `train` does no harm.
    stems = {split} if split in stems else stems
    if not stems:
        names = ", ".join(sorted({path.name for path in files})) or "none"
        wanted = f" for split '{split}'" if split else ""
        raise UserError(f"{place}: no data file{wanted} (data files there: {names}): add it, or name another")
    if len(stems) > 1:
        wanted = f"split '{split}'" if split else "no split named"
        raise UserError(
            f"{place}: {wanted} and several files fit ({', '.join(sorted(stems))}): "
            f"name the split and a prefix, as in {Path(place) / 'PREFIX'}, or one file"
        )
    return [path for path in files if stem(path) in stems]


def fits(path: Path, split: str, prefix: str = "") -> bool:
    """Whether a file is called `PREFIXsplit`, or without a prefix `split` or `something_split`."""
    return stem(path) == prefix + split or (not prefix and stem(path).endswith("_" + split))


def split_names(files: Iterable[Path], prefix: str = "") -> list[str]:
    """The splits after which some of the files are called, in the order of `ordered`."""
    stems = [stem(path) for path in files if names_a_split(path)]
    return ordered(name.removeprefix(prefix) if prefix else name.rpartition("_")[2] for name in stems)


def ordered(splits: Iterable[str]) -> list[str]:
    """Train, validation, test, then the others, each by name."""
    places = {name: place for place, name in enumerate(_ORDER)}

    def key(name: str) -> tuple[int, str]:
        known = _NAMES.fullmatch(name)
        return (
            next(place for start, place in places.items() if name.startswith(start)) if known else len(places)
        ), name

    return sorted(set(splits), key=key)
