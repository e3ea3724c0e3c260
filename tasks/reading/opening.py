"""A data file as bytes: opened, unpacked, and refused when it is not what its name says."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.reading.rows import SKIP, BadRow
from trlx.utils.errors import UserError

BOM = b"\xef\xbb\xbf"

# First bytes of what is taken for a data file by mistake: what it is, and the remedy.
_MISTAKEN = {
    b"\x1f\x8b": ("gzip-compressed, though its name does not say so", "name it {name}.gz"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
    b"version https://git-lfs": ("a Git LFS pointer in place of the data", "fetch the data with `git lfs pull`"),
    b"<!DOCTYPE": ("a web page in place of the data", "fetch it again"),
    b"<html": ("a web page in place of the data", "fetch it again"),
}


@dataclass(frozen=True)
class Opened:
    """An open data file.

    Args:
        path: for messages.
        stream: the content, unpacked, at its first byte; it can seek.
        limit: how many bytes one line, row or value may have.
    """

    path: Path
    stream: IO[bytes] | gzip.GzipFile
    limit: int

    def lines(self) -> Iterator[tuple[int, bytes]]:
        r"""Every line with its number, from 1. Lines end at "\n" alone: JSON strings and CSV fields may hold the other
        separators. Raises: UserError for a line over the limit, of which no more than the limit is read."""
        for number, line in enumerate(iter(lambda: self.stream.readline(self.limit + 1), b""), start=1):
            if len(line) > self.limit and not line.endswith(b"\n"):
                raise UserError(
                    f"{self.path}, line {number} is over {self.size}: is it the right file? "
                    "Write one object or row a line, and drop rows of that size"
                )
            yield number, line

    @property
    def size(self) -> str:
        """The limit for messages, e.g. "16 MiB"."""
        return f"{self.limit} bytes" if self.limit % 2**20 else f"{self.limit // 2**20} MiB"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns whatever the system or gzip has to say while a file is read into a UserError."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a whole gzip file ({reason}): fetch it again or drop the .gz") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: check the path") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or type(error).__name__}): mend that first"
        ) from error


@contextlib.contextmanager
def opened(path: Path, limit: int) -> Iterator[Opened]:
    """Open a file, through gzip when its name ends in `.gz`. Raises: UserError as `explained`."""
    packed = path.name.lower().endswith(".gz")
    with explained(path), gzip.open(path, "rb") if packed else path.open("rb") as stream:
        yield Opened(path, stream, limit)


def skip_mark(file: Opened) -> None:
    """Go to the first byte of the text of a file: past a UTF-8 byte order mark, where there is one.

    Raises: UserError for a file that is no text, or text in another encoding.
    """
    head = file.stream.read(32)
    for magic, (what, remedy) in _MISTAKEN.items():
        if head.startswith(magic):
            raise UserError(f"{file.path}: {what}: {remedy.format(name=file.path.name)}")
    # `detect_encoding` looks for byte order marks and at which of the first four bytes are NUL; four NULs say nothing.
    encoding = json.detect_encoding(head) if head[:4].strip(b"\0") else "utf-8"
    if not encoding.startswith("utf-8"):
        name = encoding.upper()
        raise UserError(
            f"{file.path}: {name} text, UTF-8 is needed: save it as UTF-8 (iconv -f {name} -t UTF-8 OLD > NEW)"
        )
    file.stream.seek(len(BOM) if head.startswith(BOM) else 0)


def text_of(line: bytes, where: str) -> str:
    """A line as text. Raises: BadRow for bytes that text cannot have."""
    if b"\0" in line:
        raise BadRow(where, "a NUL byte", f"the file is damaged or no text: write it anew, {SKIP}")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        detail = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        raise BadRow(where, "not UTF-8 text", f"save the file as UTF-8, {SKIP}", detail) from error
