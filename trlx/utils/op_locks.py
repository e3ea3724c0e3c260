"""Locks of torch's compiler, which a process that is killed while it builds or loads an operation leaves behind.

torch takes such a file for a process at work and waits for it, for ever and without a word. So every process that may
load DeepSpeed's operations shares a lock of the system's, which goes with the process: whoever gets that one alone
knows that nobody is at work, and removes the files. Left out: other people's processes in the same folder, and disks
without locks.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

IN_USE = ".in_use"
_shared: list[IO[str]] = []  # open for as long as this process lives


def operations_folder() -> Path:
    """Where torch compiles operations of this process."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    if named:
        return Path(named)
    from torch.utils.cpp_extension import get_default_build_root  # which takes a while to import

    return Path(get_default_build_root())


def remove_stale_locks(folder: Path | None = None) -> int:
    """Remove what killed processes left, unless one that shares the lock is alive; returns how many files.

    Args:
        folder: of compiled operations; by default this process's.
    """
    file = _opened(folder or operations_folder())
    if file is None:
        return 0
    with file:
        return _clear(file, Path(file.name).parent)


def share_operations() -> None:
    """Remove what killed processes left, and from here on keep others from removing ours; for a rank, early."""
    file = _opened(operations_folder())
    if file is None or _shared:
        return
    _clear(file, Path(file.name).parent)
    fcntl.flock(file, fcntl.LOCK_SH)
    _shared.append(file)


def _opened(folder: Path) -> IO[str] | None:
    """The file that the system's lock is on; None where it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / IN_USE).open("a")
    except OSError:
        return None


def _clear(file: IO[str], folder: Path) -> int:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody is at work, or the disk knows no locks
        return 0
    locks = [path for path in folder.glob("**/lock") if path.is_file()]
    for path in locks:
        path.unlink(missing_ok=True)
    return len(locks)
