"""One run in a folder at a time.

The system lets go of a lock when its process ends, however it ends, so that nothing is ever left locked. Left out:
disks that know no locks, where two runs are not kept apart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trlx.utils.distributed import from_main_rank
from trlx.utils.errors import UserError

_held: dict[Path, IO[str] | _Folder] = {}


def lock_path(folder: str | os.PathLike[str]) -> Path:
    """Beside the folder, whose own content tells whether it holds a run."""
    folder = Path(folder).resolve()
    return folder.with_name(f".{folder.name}.lock")


def take(folder: str | os.PathLike[str]) -> bool:
    """Keep other processes' runs out of `folder`, which need not exist yet, until `let_go` or the process's end.

    Returns: False where this process has it already.
    Raises: UserError naming the process that has it.
    """
    path = lock_path(folder)
    if path in _held:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _opened(path, Path(folder))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _said_in(file)
        file.close()
        raise UserError(
            f"{folder}: another run is writing here ({holder or 'a process that just began'}): "
            "wait for it, end it, or name another folder with --root or --out"
        ) from error
    except OSError:  # a disk without locks
        file.close()
        return False
    if isinstance(file, io.TextIOBase):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {json.dumps(socket.gethostname())}")
        file.flush()
    _held[path] = file
    return True


def _opened(path: Path, folder: Path) -> IO[str] | _Folder:
    """The lock's file, or where none can be written beside the folder (a disk of its own), the folder itself."""
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not folder.is_dir():
            raise
        return _Folder(folder)


class _Folder:
    """An open folder, which can be locked and tells nothing of who has it."""

    def __init__(self, folder: Path):
        self._number = os.open(folder, os.O_RDONLY)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        os.close(self._number)


def _said_in(file: IO[str] | _Folder) -> str:
    """Who has a lock, as its file tells."""
    if isinstance(file, _Folder):
        return "which process cannot be told"
    file.seek(0)
    return file.read().strip()


def let_go(folder: str | os.PathLike[str]) -> None:
    """Let other runs into `folder`; nothing where this process does not keep them out."""
    file = _held.pop(lock_path(folder), None)
    if file is not None:
        file.close()  # the file stays: removing it would let two processes lock two files of one name


def let_go_of_all() -> None:
    """At the end of a script, which in a test is not the end of its process."""
    for path in list(_held):
        _held.pop(path).close()


@contextlib.contextmanager
def holding(folder: str | os.PathLike[str]) -> Iterator[None]:
    """`take` by the main rank for as long as the block runs; what it had already it keeps. A collective."""
    ours = from_main_rank(lambda: take(folder))
    try:
        yield
    finally:
        if ours:
            let_go(folder)
