"""Code for a script's process that ends it as a power cut would, at a chosen change of a file below a folder.

Every way in which Python opens a file to write, renames, makes or removes one is an *event*; Python's audit hooks tell
of each before it happens. Counting events instead of seconds hits every moment of a save, and the same one each time.
Left out: writes that libraries in other languages make by themselves (safetensors'), which lie between two events.
"""

from __future__ import annotations

from pathlib import Path

_CODE = """
import atexit, os, signal, sys

def _install(folder, kill_at, count_file):
    seen, main = [0], os.getpid()
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    def hook(event, arguments):
        if event == "open":
            path, flags = arguments[0], arguments[2]
            if not isinstance(flags, int) or not flags & changing:
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            path = arguments[0]
        else:
            return
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(folder) or os.getpid() != main:
            return
        seen[0] += 1
        if seen[0] == kill_at:
            os.kill(main, signal.SIGKILL)
    sys.addaudithook(hook)
    if count_file:
        atexit.register(lambda: open(count_file, "w").write(str(seen[0])))

"""


def kill_at(folder: Path, event: int) -> str:
    """Code that kills its process at the `event`-th change below `folder`, counted from 1."""
    return _filled(str(folder), event, None)


def count_into(folder: Path, file: Path) -> str:
    """Code that at its process's end writes into `file`, which lies elsewhere, how many changes there were."""
    return _filled(str(folder), 0, str(file))


def _filled(folder: str, event: int, count_file: str | None) -> str:
    return f"{_CODE}_install({folder!r}, {event}, {count_file!r})\n"
