"""Running launchers, one or one a machine: their output on the console and in a log, and none left behind.

Each command leads a process group of its own. When one fails, or this process is told to end, all are asked to end
(SIGTERM, upon which a training stage saves) and, after a while, made to; so is everything that they started, ranks
included, which launchers start in groups of their own. Left out: surviving a SIGKILL of this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import psutil

from trlx.utils.errors import SILENCE, UserError

GRACE = 60.0  # seconds to save and end in; launchers give their ranks 30 themselves
AT_ONCE = 10.0  # at most, for the system to take a killed process away
ASKED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked this process to end. `code` is what a shell would see."""

    def __init__(self, number: int):
        self.name, self.code = signal.Signals(number).name, 128 + number
        super().__init__(self.name)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within it the signals that ask a process to end raise `Interrupted`; only in the main thread."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in ASKED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_together(
    commands: Sequence[Sequence[str]],
    environment: dict[str, str],
    log: Path,
    labels: Sequence[str] = (),
    more: bool = False,
    grace: float = GRACE,
) -> int:
    """Run commands at the same time until all have ended or one has failed, upon which the others are ended.

    Args:
        commands: one a machine. environment: of every one of them.
        log: gets a copy of everything that they print. more: keep what it holds.
        labels: begin the lines of each where there are several.
        grace: seconds in which those that are asked to end may do so.

    Returns: 0, or the code of the first that failed; negative for the signal that killed it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab" if more else "wb") as copy:
        processes: list[subprocess.Popen[bytes]] = []
        readers: list[threading.Thread] = []
        turns = threading.Lock()
        try:
            for command, label in zip(commands, labels or [""] * len(commands), strict=True):
                processes.append(_start(command, environment))
                arguments = (processes[-1].stdout, label, copy, turns)
                readers.append(threading.Thread(target=_pass_on, args=arguments, daemon=True))
                readers[-1].start()
            return _first_failure(processes)
        finally:
            _stop(processes, grace)
            for reader in readers:
                reader.join(timeout=SILENCE)


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _pass_on(pipe: BinaryIO, label: str, log: BinaryIO, turns: threading.Lock) -> None:
    """Copy a command's output to console and log: as it comes, or line by line behind its label."""
    begin = f"[{label}] ".encode() if label else b""
    while chunk := pipe.readline() if label else pipe.read1(65536):  # type: ignore[attr-defined]
        with turns:
            if log.closed:
                return
            for stream in (sys.stdout.buffer, log):
                stream.write(begin + chunk)
                stream.flush()


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The code of the first to fail, or 0 once all have ended well. The others have time to say why themselves."""
    while True:
        codes = [process.poll() for process in processes]
        failed = next((code for code in codes if code), None)
        if failed is not None:
            patience = time.monotonic() + SILENCE
            while any(process.poll() is None for process in processes) and time.monotonic() < patience:
                time.sleep(0.1)
            return failed
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


def _stop(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """End what is left of the commands and of what they started; a second interruption ends it at once."""
    left = _left_of({process.pid for process in processes})
    if not left:
        return
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGTERM)
    try:
        _wait(left, grace)
    finally:
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        _wait(left, AT_ONCE)  # a killed process is gone a moment later
        for process in processes:
            process.wait()


def _left_of(groups: set[int]) -> list[psutil.Process]:
    """The processes of these groups that run, whose leader may have died, and all that they started."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) in groups and _alive(process):
                found |= {one.pid: one for one in [process, *process.children(recursive=True)]}
    return list(found.values())


def _wait(processes: Sequence[psutil.Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    while any(_alive(process) for process in processes) and time.monotonic() < until:
        time.sleep(0.1)


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and that nobody has asked for its code does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def run_stage(command: Sequence[str], environment: dict[str, str], log: Path) -> None:
    """Run a command with its output on the console; a copy of everything goes to `log`.

    Raises: UserError when it fails.
    """
    code = run_together([command], environment, log)
    if code != 0:
        raise UserError(f"{name_of(command)} failed with code {code}: its output above, and in {log}, says why")


def name_of(command: Sequence[str]) -> str:
    """What to call a command in a message: its script, or the module it runs."""
    scripts = [Path(part).name for part in command if part.endswith(".py")]
    return scripts[0] if scripts else command[command.index("-m") + 1]
