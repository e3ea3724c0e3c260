"""What a stage prints on the cluster: a file for every rank, of which the main rank's is shown as it grows.

Ray could show it too, but under a prefix, mixed with its own lines, and with a traceback for every mistake.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

PREFIX = "error: "


def log_path(folder: str | Path, rank: int) -> Path:
    """Of one rank of a job; a stage that is started again goes on in it."""
    return Path(folder) / "logs" / f"rank_{rank}.log"


class _Output:
    """A text stream to a file that keeps the lines of `errors.fail` apart.

    The person sees those once, from the command.
    """

    def __init__(self, file: IO[str], told: list[str]):
        self.file, self.told, self.kept = file, told, False
        self.encoding = "utf-8"

    def write(self, text: str) -> int:
        ends_kept = self.kept and text == "\n"  # print writes the end of its line by itself
        self.kept = text.startswith(PREFIX)
        if self.kept:
            self.told.append(text.removeprefix(PREFIX).strip())
        elif not ends_kept:
            self.file.write(text)
            self.file.flush()
        return len(text)

    def flush(self) -> None:
        self.file.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.file.fileno()


@contextlib.contextmanager
def printing_to(path: Path) -> Iterator[list[str]]:
    """Within it Python's stdout and stderr go to the file's end; gives the list of `error:` lines kept apart."""
    told: list[str] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        output = cast(TextIO, _Output(file, told))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            yield told


@contextlib.contextmanager
def shown(path: Path, seconds: float = 0.5) -> Iterator[None]:
    """Within it what is added to a file is copied to stdout, also what was added right before the end.

    Args:
        path: need not exist yet, or be seen from here at all.
        seconds: between two looks.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, ended, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(path: Path, ended: threading.Event, seconds: float) -> None:
    at = 0
    while True:
        last = ended.wait(seconds)
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(at)
            while chunk := file.read(65536):
                sys.stdout.buffer.write(chunk)
                at += len(chunk)
            sys.stdout.flush()
        if last:
            return
