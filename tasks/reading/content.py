"""What a source reads: files one after another, or a table of the datasets library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.reading.files import format_of, iter_file
from tasks.reading.hub import iter_table
from tasks.reading.opening import explained
from tasks.reading.rows import BadRows, RawRow

if TYPE_CHECKING:
    import datasets


class Digest(Protocol):
    """The part of a hash of `hashlib` that is used here."""

    def update(self, data: bytes, /) -> None: ...


class Content(Protocol):
    """Rows that can be read again and again."""

    def rows(self, on_bad: BadRows) -> Iterator[RawRow]: ...

    def add_to(self, digest: Digest) -> None:
        """Feed a hash with what makes this content different from another."""


@dataclass(frozen=True)
class Files:
    """Files in their order."""

    paths: list[Path]

    def rows(self, on_bad: BadRows) -> Iterator[RawRow]:
        for path in self.paths:
            yield from iter_file(path, on_bad)

    def add_to(self, digest: Digest) -> None:
        for path in self.paths:
            digest.update(f"{format_of(path)} {_file_hash(path)}\n".encode())


@dataclass(frozen=True)
class Table:
    """A table; `name` is for messages."""

    table: datasets.Dataset
    name: str

    def rows(self, on_bad: BadRows) -> Iterator[RawRow]:
        return iter_table(self.table, self.name)

    def add_to(self, digest: Digest) -> None:
        # The fingerprint says what was done to the data; of data on the disk it may be as old as the download.
        digest.update(f"table {self.table._fingerprint}\n".encode())
        for file in self.table.cache_files:
            digest.update(f"{_file_hash(Path(file['filename']))}\n".encode())


def _file_hash(path: Path) -> str:
    with explained(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
