"""A limit on how long a function of the user's may take.

In the main thread an alarm interrupts it, wherever it waits: it stays in that thread, where it may use asyncio, signals
and torch's settings as ever. What no alarm can interrupt (native code that never returns, another thread than the main
one) ends with the process `GRACE` seconds later, all threads' tracebacks on stderr. Left out: systems without SIGALRM,
where the latter alone is there.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from trlx.utils.errors import UserError

T = TypeVar("T")
GRACE = 15.0


class _Expired(BaseException):
    """Not an Exception: a function that tries again after any Exception must not catch it."""


def limited(function: Callable[..., T], seconds: float | None, option: str) -> Callable[..., T]:
    """The function, which raises UserError once it takes longer than that; itself where seconds is None.

    Args:
        option: what sets the limit, e.g. "train.reward_timeout"; named in the message.
    """
    if seconds is None:
        return function

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> T:
        try:
            with _alarm(seconds):
                return function(*args, **keywords)
        except _Expired:
            raise UserError(
                f"{name_of(function)} did not return within {seconds:g} s ({option}): "
                "see what it waits for, or raise the limit"
            ) from None

    return call


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function, or an object that can be called, in a message."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `_Expired` after so many seconds; `GRACE` later end the process."""
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        with _interrupt(seconds) if _may_interrupt(seconds) else contextlib.nullcontext():
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _may_interrupt(seconds: float) -> bool:
    """Whether there is an alarm to set, and nobody else's that would come first."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        return False
    others = signal.getitimer(signal.ITIMER_REAL)[0]
    return others == 0 or others > seconds


@contextlib.contextmanager
def _interrupt(seconds: float) -> Iterator[None]:
    def expire(*_: Any) -> None:
        raise _Expired

    handler = signal.signal(signal.SIGALRM, expire)
    others, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        left = signal.setitimer(signal.ITIMER_REAL, 0)[0]
        signal.signal(signal.SIGALRM, handler)
        if others:  # what is left of somebody else's alarm
            signal.setitimer(signal.ITIMER_REAL, max(others - (seconds - left), 1e-3))
