"""Which files of a folder are which split: told by their names, or else by a column of their rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.reading.files import format_of
from trlx.utils.errors import UserError

_NAMES = re.compile(r"(train|training|valid|validation|val|dev|test|eval)\d*", re.IGNORECASE)
_SHARD = re.compile(r"-(\d+)-of-(\d+)\Z")
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
    return _SHARD.sub("", _bare(path))


def _bare(path: Path) -> str:
    """The name without its endings."""
    return path.name[: len(Path(path.name.lower().removesuffix(".gz")).stem)]


def require_once(files: Iterable[Path], place: str) -> None:
    """Refuse files of one folder called the same but for their endings, as `gunzip -k` leaves them: `train.jsonl`
    beside `train.jsonl.gz` would be read twice. Only the shards of one set are read together.

    Args:
        files: to be read. place: where they lie, for the message.

    Raises: UserError naming them.
    """
    sets: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        sets.setdefault((path.parent, stem(path)), []).append(path)
    for (_, name), same in sets.items():
        shards = {_SHARD.search(_bare(path)) for path in same}
        totals = {shard and shard[2] for shard in shards}
        if len(same) > 1 and (None in totals or len(totals) > 1 or len({_bare(path) for path in same}) < len(same)):
            names = ", ".join(sorted(path.name for path in same))
            raise UserError(
                f"{place}: '{name}' is there more than once ({names}), and only shards such as "
                f"{name}-00000-of-00002.jsonl are read together: move all but one elsewhere, or name one file"
            )


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
        near = near_split(split, (name_of(path, prefix) for path in files))
        remedy = f"{near} Name that split, or add the file" if near else "add it, or name another"
        raise UserError(f"{place}: no data file{wanted} (data files there: {names}): {remedy}")
    if len(stems) > 1:
        wanted = f"split '{split}'" if split else "no split named"
        raise UserError(
            f"{place}: {wanted} and several files fit ({', '.join(sorted(stems))}): "
            f"name the split and a prefix, as in {Path(place) / 'PREFIX'}, or one file"
        )
    found = [path for path in files if stem(path) in stems]
    require_once(found, place)
    return found


def near_split(split: str | None, known: Iterable[str | None]) -> str:
    """`"did you mean 'validation'?"` when that is there and `valid`, `val` or `Validation` was asked for, else "".

    Args:
        split: as asked for. known: the splits that there are.
    """
    asked = (split or "").casefold()
    names = ordered(name for name in known if name and len(name) > 2)
    near = [name for name in names if len(asked) > 2 and _alike(name.casefold(), asked)]
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def _alike(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def fits(path: Path, split: str, prefix: str = "") -> bool:
    """Whether a file is called `PREFIXsplit`, or without a prefix `split` or `something_split`."""
    return stem(path) == prefix + split or (not prefix and stem(path).endswith("_" + split))


def name_of(path: Path, prefix: str = "") -> str:
    """The split that a file is of, if it is of any: what `fits` asks for."""
    return stem(path).removeprefix(prefix) if prefix else stem(path).rpartition("_")[2]


def split_names(files: Iterable[Path], prefix: str = "") -> list[str]:
    """The splits after which some of the files are called, in the order of `ordered`."""
    return ordered(name_of(path, prefix) for path in files if names_a_split(path))


def ordered(splits: Iterable[str]) -> list[str]:
    """Train, validation, test, then the others, each by name."""
    places = {name: place for place, name in enumerate(_ORDER)}

    def key(name: str) -> tuple[int, str]:
        known = _NAMES.fullmatch(name)
        return (
            next(place for start, place in places.items() if name.lower().startswith(start)) if known else len(places)
        ), name

    return sorted(set(splits), key=key)
