"""The disk: is there room and permission before hours of work, and what to say when there is not in the middle.

Errors of the disk reach us as OSError, as safetensors' own error or as PyTorch's RuntimeError, most of them without
the file's name; `writing` adds it, `disk_trouble` tells them from bugs. Left out: waiting for room.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trlx.utils.errors import UserError

# What a person can mend, and how.
_FULL = "free some space there, or write elsewhere (--root, --out)"
_DENIED = "change its permissions, or name another file or folder"
REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "write elsewhere (--root, --out)",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
}
# PyTorch's file writer drops the system's error number; a short write shows in its count of bytes.
_TORCH_WRITER = re.compile(r"inline_container\.cc.*(unexpected pos|failed writing|open file failed)", re.DOTALL)
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")


def nearest_folder(path: str | os.PathLike[str]) -> Path:
    """The path itself where it is a folder, else the closest one above that exists."""
    path = Path(path).absolute()
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), Path(path.anchor))


def require_writable(folder: str | os.PathLike[str], option: str = "--root or --out") -> None:
    """Refuse a folder that this process cannot write into, by writing a file that is gone at once.

    Args:
        folder: need not exist yet; then the closest folder above it counts.
        option: what chooses it, for the message.

    Raises: UserError naming the folder, or the file in its place, and why.
    """
    path = Path(folder).absolute()
    in_the_way = next((part for part in (path, *path.parents) if part.exists() and not part.is_dir()), None)
    if in_the_way is not None:
        raise UserError(f"{in_the_way} is a file where a folder is needed: choose another {option}")
    there = nearest_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise UserError(f"{there}: cannot write here ({os.strerror(error.errno)}): choose another {option}") from error


def require_disk(folder: str | os.PathLike[str], needed: int, what: str, remedy: str) -> None:
    """Refuse to begin what the disk will not hold.

    Args:
        folder: where it will be written; need not exist yet.
        needed: bytes that it will take.
        what: what takes them, e.g. "three checkpoints".
        remedy: what else than freeing space helps, e.g. "choose another --root".

    Raises: UserError naming what is needed, what is free, and where.
    """
    there = nearest_folder(folder)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{there}: {what} will take about {gigabytes(needed)}, and {gigabytes(free)} are free: "
            f"free some space there, or {remedy}"
        )


def gigabytes(count: int) -> str:
    """`"12.3 GB"`, or megabytes for less than a tenth of one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def size_of(*paths: Path) -> int:
    """Bytes of the files at and below the paths."""
    found = [item for path in paths for item in ([path] if path.is_file() else path.rglob("*"))]
    return sum(item.stat().st_size for item in found if item.is_file() and not item.is_symlink())


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the file or folder being written in an error of the disk that does not name it itself."""
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(number, os.strerror(number), os.fspath(path)) from error


def disk_trouble(error: BaseException) -> str | None:
    """The line to print when an error is the disk's and not a bug's, with the remedy; else None.

    A full disk is one whatever raised it; a permission that is missing counts only where the error names the file.
    """
    number = _number(error)
    name = getattr(error, "filename", None)
    if number is None or (isinstance(error, OSError) and name is None and REMEDIES[number] == _DENIED):
        return None
    where = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else "cannot write a file"
    return f"{where}: {os.strerror(number)}: {REMEDIES[number]}"


def _number(error: BaseException) -> int | None:
    """The system's number of an error of the disk, whichever library raised it; None for any other error."""
    if isinstance(error, OSError):
        return error.errno if error.errno in REMEDIES else None
    text = str(error)
    found = _RUST_ERROR.search(text)
    if type(error).__name__ == "SafetensorError" and found:
        return int(found.group(1)) if int(found.group(1)) in REMEDIES else None
    if isinstance(error, RuntimeError) and _TORCH_WRITER.search(text):
        named = (number for number in REMEDIES if os.strerror(number) in text)
        return next(named, errno.ENOSPC)
    return None
