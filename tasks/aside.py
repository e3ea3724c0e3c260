"""Files and folders written aside and put in their place when whole; what a kill left aside goes with the next writing.

What is being written holds a lock (flock), which the system takes back with the process. So something aside that
nobody holds is a leftover, whatever number its process had and wherever it ran.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from trlx.utils.errors import UserError
from trlx.utils.files import fsync_tree, fsync_tree_top, merge


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that becomes `path` when the block ends without an error. Raises: UserError from the disk."""
    aside = _aside(path)
    with naming_disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            with aside.open("wb") as file:
                _lock(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(aside, path)
            fsync_tree_top(path.parent)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


@contextlib.contextmanager
def filling_folder(folder: Path, replaced: Iterable[Path]) -> Iterator[Path]:
    """Yield an empty folder whose files are moved into `folder` when the block ends without an error.

    A folder that was absent or empty appears with all of them at once; into another they go one by one, each the old
    file or the new.

    Args:
        folder: what it holds besides stays. replaced: files of it that make way for the new ones.

    Raises: UserError from the disk.
    """
    with naming_disk_errors(folder):
        folder = folder.resolve()
        aside = _aside(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        descriptor = os.open(aside, os.O_RDONLY)
        try:
            _lock(descriptor)
            yield aside
            new = {item.name for item in aside.iterdir()}
            _publish(aside, folder)
            for path in replaced:
                if path.name not in new:
                    path.unlink(missing_ok=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            os.close(descriptor)


def _publish(aside: Path, folder: Path) -> None:
    fsync_tree(aside)
    try:
        os.rename(aside, folder)
    except OSError:  # not empty, perhaps since a moment ago
        if not folder.is_dir():
            raise
        merge(aside, folder, last="")
    else:
        fsync_tree_top(folder.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that ended on the way left aside for `path`."""
    name = re.compile(re.escape(f".{path.name}.writing-") + r"\d+")
    for item in [item for item in path.parent.iterdir() if name.fullmatch(item.name)]:
        with contextlib.suppress(OSError):  # another process may be removing it too
            descriptor = os.open(item, os.O_RDONLY)
            try:
                if _lock(descriptor):
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            finally:
                os.close(descriptor)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.writing-{os.getpid()}")


def _lock(descriptor: int) -> bool:
    """Whether the lock was to be had; never where the disk knows no locks, so that nothing is removed there."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def naming_disk_errors(path: Path) -> Iterator[None]:
    """Raises: UserError that `path` cannot be written, instead of an OSError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{path}: cannot be written ({reason}): name another place, or mend that first") from error
