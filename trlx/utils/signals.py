"""Signals that ask a run to stop: noted when they come, acted on where stopping is safe.

SIGTERM is what schedulers, launchers and `kill` send; SIGUSR1 is the notice that Slurm gives ahead of a time limit or a
preemption (`--signal=USR1@120`). Left out: SIGINT, which ends a run at once, as people who press Ctrl-C expect.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
# Seconds within which a second SIGTERM is the first one over again: a scheduler signals launcher and ranks, and the
# launcher passes it on.
ECHO = 5.0


class StopRequest:
    """A context in which SIGTERM and SIGUSR1 are noted; a second SIGTERM, sent later, ends the process at once.

    A signal that a handler of someone else's waits for is left to it; so are all of them outside of the main thread,
    where Python allows no handlers.

    Attributes: name: "SIGTERM" or "SIGUSR1" once it has come, else None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._terminated: float | None = None  # when the first SIGTERM came, by the monotonic clock
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._installed = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
            for number in self._installed:
                signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number in self._installed:
            signal.signal(number, signal.SIG_DFL)
        self._installed = []

    def _note(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGTERM:
            if self._terminated is not None and now - self._terminated > ECHO:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self._terminated = now if self._terminated is None else self._terminated
        self.name = self.name or signal.Signals(number).name
