"""Where rows come from: a file, several, a folder, a prefix in a folder, a `save_to_disk` folder or a hub id.

Which rows are a split's is told by the file's name in a folder, by the table's name in a set of the datasets library,
and else by a text column `split`, where the rows have one. Nothing is held in memory but the row at hand.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.reading.columns import listed, mapped
from tasks.reading.content import Content, Files, Table
from tasks.reading.places import Place, locate
from tasks.reading.rows import BadRow, BadRows, RawRow, Skipped, stop
from tasks.reading.splits import (
    files_of_split,
    fits,
    is_plain,
    name_of,
    names_a_split,
    near_split,
    ordered,
    require_once,
    split_names,
    stem,
)
from trlx.utils.errors import UserError

_IGNORE = "--columns.split '' ignores the column"


@dataclass(frozen=True)
class Source:
    """The rows of one split.

    Args:
        name: for messages, e.g. "data/tldr, split 'train'".
        content: the files or table to read.
        split: which rows are taken of it, told by `column`; None for all rows.
        column: the column that may name a row's split; "" where none is looked at.
    """

    name: str
    content: Content
    split: str | None = None
    column: str = ""

    def rows(self, on_bad: BadRows = stop) -> Iterator[RawRow]:
        """The rows, one by one.

        Args:
            on_bad: gets what is wrong with single rows, which are then left out.

        Raises: UserError for what is wrong with a file, and when no row comes out.
        """
        skipped = Skipped()

        def note(bad: BadRow) -> None:
            on_bad(bad)
            skipped(bad)

        row = None
        for row in self._of_split(note):
            yield row
        if row is None and skipped.counts:
            raise UserError(f"{self.name} holds no usable row ({skipped}): mend the data")
        if row is None:
            raise UserError(f"{self.name} holds no rows: give a file or split that is not empty")

    def _of_split(self, on_bad: BadRows) -> Iterator[RawRow]:
        if not self.column:
            yield from self.content.rows(on_bad)
            return
        seen = set()
        for row in self.content.rows(on_bad):
            name = _split_of(row, self.column)
            if (name is None) != (self.split is None):
                reason = f"column '{self.column}' names a split in some rows only"
                on_bad(BadRow(row.where, reason, f"fill it in every row ({_IGNORE})"))
                continue
            seen.add(name)
            if name == self.split:
                yield row
        if seen and self.split not in seen:
            known = listed(ordered(filter(None, seen)))
            choose = near_split(self.split, seen) or "choose one"
            raise UserError(
                f"{self.name}: no row of this split; column '{self.column}' has: {known} ({choose}; {_IGNORE})"
            )

    def content_hash(self) -> str:
        """A hash of the content and of what is selected of it, wherever it lies and whatever it is called."""
        digest = hashlib.sha256()
        if self.split is not None:
            digest.update(f"{self.column!r} is {self.split!r}\n".encode("utf-8", "backslashreplace"))
        self.content.add_to(digest)
        return digest.hexdigest()


def open_source(source: str, split: str | None, split_column: str | None = "split") -> Source:
    """Find the rows of one split, without reading more than the first.

    Args:
        source: in this order: a file; a folder, in which split `x` is the file `x.*` or `*_x.*` (or its shards
            `x-00000-of-00002.*`), or one written by `save_to_disk`; a prefix `DIR/name`, for the files `name_x.*` where
            a folder holds several sets; files separated by commas, or patterns such as `DIR/batch*.json`; else a hub
            id, `owner/name` or `owner/name:configuration`.
        split: "train", "valid", ...; None for everything, when there is only one set.
        split_column: of files given by themselves, and of a folder whose files are not called after splits, the rows
            are taken whose column of this name has the split (all of them, when they have no such column); None or ""
            not to look at it.

    Raises: UserError naming the file or split, and the remedy.
    """
    place = locate(source)
    column = split_column or ""
    if place.tables:
        return _of_tables(place, split, column)
    if place.folder:
        return _of_folder(place, split, column)
    return _of_files(place, split, column)


def splits_of(source: str, split_column: str | None = "split") -> list[str]:
    """The names of a source's splits: train, validation, test, then others; [] when it is one without a name.

    Args: as `open_source`. Where a column tells the split, all rows are read.
    """
    place = locate(source)
    if place.tables:
        names = [name for name in place.tables if name is not None]
        return ordered(names) or _values(Table(place.tables[None], source), split_column or "")
    if place.folder and _told_by_column(place, split_column or ""):
        plain = split_names((path for path in place.files if is_plain(path, place.prefix)), place.prefix)
        return ordered([*plain, *_values(_besides_plain(place), split_column or "")])
    if place.folder or _called_after_splits(place):
        return split_names(place.files, place.prefix)
    return _values(Files(place.files), split_column or "")


def named(source: str, split: str | None) -> str:
    """What messages call the rows of a split."""
    return f"{source}, split '{split}'" if split else source


def _of_tables(place: Place, split: str | None, column: str) -> Source:
    source = place.source
    if None in place.tables:
        return _selecting(source, Table(place.tables[None], source), split, column)
    if split is None and len(place.tables) == 1:
        split = next(iter(place.tables))
    if split not in place.tables:
        wanted = f"no split '{split}'" if split else "several splits and none named"
        choose = near_split(split, place.tables) or "choose one"
        raise UserError(f"{source}: {wanted}; known: {', '.join(map(str, place.tables))}: {choose}")
    return Source(named(source, split), Table(place.tables[split], named(source, split)))


def _of_folder(place: Place, split: str | None, column: str) -> Source:
    name = named(place.source, split)
    # A file called exactly like the split is it, whatever a column says.
    exact = any(stem(path) == f"{place.prefix}{split}" for path in place.files)
    if exact or not _told_by_column(place, column):
        return Source(name, Files(files_of_split(place.files, place.folder, place.prefix, split)))
    content = Files(place.files) if split is None else _besides_plain(place)
    require_once(content.paths, place.folder)
    return Source(name, content) if split is None else Source(name, content, split, column)


def _told_by_column(place: Place, column: str) -> bool:
    """Whether in a folder a column tells the split: it has a file that is not called after one, with that column."""
    others = [path for path in place.files if not names_a_split(path)]
    try:
        return _split_of_first(Files(others[:1]), column) is not None
    except UserError:
        # Beside files called after splits there may lie one that is none of the data.
        if len(others) == len(place.files):
            raise
        return False


def _besides_plain(place: Place) -> Files:
    """The files of which a column tells the splits: not `train.jsonl`, all of which is the one it is called after."""
    return Files([path for path in place.files if not is_plain(path, place.prefix)])


def _of_files(place: Place, split: str | None, column: str) -> Source:
    content = Files(place.files)
    if split is None:
        return Source(place.source, content)
    if _called_after_splits(place):
        files = [path for path in place.files if fits(path, split)]
        if not files:
            near = near_split(split, map(name_of, place.files))
            remedy = f"{near} Name that split, or add the file" if near else "add it, or name another split"
            raise UserError(f"{place.source}: no file is called after split '{split}': {remedy}")
        return Source(named(place.source, split), Files(files))
    found = _selecting(place.source, content, split, column)
    called = [path.name for path in place.files if names_a_split(path)]
    if len(place.files) > 1 and called and found.split is None:
        other = next(path.name for path in place.files if not names_a_split(path))
        raise UserError(
            f"{place.source}: '{called[0]}' is called after a split and '{other}' is not: give the files of one split"
        )
    return found


def _called_after_splits(place: Place) -> bool:
    """Whether several files were given that are all called after a split; a single one is the split it is given for."""
    return len(place.files) > 1 and all(map(names_a_split, place.files))


def _selecting(source: str, content: Content, split: str | None, column: str) -> Source:
    """A source that takes the rows of the split if the first row names one, else all rows."""
    if split is not None and _split_of_first(content, column) is not None:
        return Source(named(source, split), content, split, column)
    return Source(source, content, None, "" if split is None else column)


def _split_of(row: RawRow, column: str) -> str | None:
    """What a row has in the column of the split, if that is text."""
    value = row.values.get(column)
    if value is None and "." in column:
        with contextlib.suppress(BadRow):
            value = mapped(row, {"split": column}).values["split"]
    return value if isinstance(value, str) and value.strip() else None


def _split_of_first(content: Content, column: str) -> str | None:
    first = next(content.rows(Skipped()), None) if column else None
    return None if first is None else _split_of(first, column)


def _values(content: Content, column: str) -> list[str]:
    if _split_of_first(content, column) is None:
        return []
    return ordered(filter(None, (_split_of(row, column) for row in content.rows(Skipped()))))
