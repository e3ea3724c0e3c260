"""Installed in a script's process: ends it, or the whole run that it belongs to, at a chosen moment.

Every way in which Python opens a file to write, renames, makes or removes one is a *change*; Python's audit hooks tell
of each before it happens. Counting changes instead of seconds hits every part of a save, and the same one each time.
What lies between two of them (rollouts, steps, writes that libraries in other languages make by themselves) is hit by
a wait from a change on; the next change ends the wait, so that what was to be hit cannot be over.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil

CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
# Function on the stack → what is under way; the first that is found counts.
PARTS = {
    **dict.fromkeys(("save", "_save_checkpoint", "write_model", "publish_model"), "save"),
    **dict.fromkeys(("make_experience", "_derive_advantages"), "rollouts"),
    **dict.fromkeys(("evaluate", "_evaluate"), "evaluation"),
    **dict.fromkeys(("train_step", "training_step", "batches", "get_batch_samples"), "step"),
}
OTHER = "start or end"


@dataclass(frozen=True)
class Order:
    """What the process is to do.

    Args:
        folder: changes of files below it count.
        record: a file elsewhere, which at the process's end gets the changes that there were, or at a kill what was
            under way; both as JSON.
        change: the one, from 1, before which to kill; 0 never kills.
        wait: kill so many seconds after the change before that one, if it has not come by then.
        above: the process that started the run's launcher, all of which ends as in a power cut; None: this one alone.
    """

    folder: str
    record: str
    change: int = 0
    wait: float | None = None
    above: int | None = None

    def code(self) -> str:
        """Python code that carries it out in the process that runs it."""
        here = str(Path(__file__).parent)
        return f"import sys; sys.path.append({here!r}); import killing; killing.install(**{asdict(self)!r})\n"


def install(**order: Any) -> None:
    """Begin to count, in this process and not in those it starts."""
    Watch(Order(**order))


class Watch:
    """Counts the changes that a process makes, and kills at its time."""

    def __init__(self, order: Order):
        self.order, self.process, self.below = order, os.getpid(), os.path.join(order.folder, "")
        self.main = threading.main_thread().ident
        self.seen: list[tuple[float, str]] = []  # (when, what was under way) of each change
        sys.addaudithook(self.hook)
        if not order.change:
            atexit.register(lambda: Path(order.record).write_text(json.dumps(self.seen)))

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by the interpreter before anything of note."""
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & CHANGING:
                return
        elif event not in CHANGES:
            return
        path = arguments[0]
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(self.below):
            return
        if os.getpid() == self.process:
            self.count()

    def count(self) -> None:
        self.seen.append((time.monotonic(), self.under_way()))
        if len(self.seen) == self.order.change:
            self.strike()
        elif len(self.seen) == self.order.change - 1 and self.order.wait is not None:
            timer = threading.Timer(self.order.wait, self.strike)
            timer.daemon = True
            timer.start()

    def under_way(self) -> str:
        """The part of a run that the main thread is in."""
        frame, names = sys._current_frames().get(self.main or 0), set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        return next((part for name, part in PARTS.items() if name in names), OTHER)

    def strike(self) -> NoReturn:
        Path(self.order.record).write_text(json.dumps(self.under_way()))
        if self.order.above is not None:
            for process in others_of(self.order.above):
                process.kill()
        os.kill(self.process, signal.SIGKILL)
        raise AssertionError("a killed process goes on")


def others_of(above: int) -> list[psutil.Process]:
    """The run's processes besides this one, the launcher, which would notice the death of a rank, first."""
    own = psutil.Process()
    launcher = next(process for process in own.parents() if process.ppid() == above)
    return [process for process in [launcher, *launcher.children(recursive=True)] if process != own]
