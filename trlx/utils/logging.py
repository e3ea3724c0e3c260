"""Messages and progress bars of the engine, on the standard library's logging.

    from trlx import logging

    logging.set_verbosity(logging.WARNING)
    logging.get_logger(__name__).info("shown by rank 0", ranks=[0])

The level at the start is that of TRLX_VERBOSITY (debug, info, warning, error, critical), else info. Left out: files and
formats, for which a handler of one's own is added with `add_handler`.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import MutableMapping
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import Any, TextIO

from tqdm.auto import tqdm as _Bar

__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "FATAL",
    "INFO",
    "NOTSET",
    "WARN",
    "WARNING",
    "MultiProcessAdapter",
    "add_handler",
    "disable_default_handler",
    "disable_progress_bar",
    "disable_propagation",
    "enable_default_handler",
    "enable_progress_bar",
    "enable_propagation",
    "get_logger",
    "get_verbosity",
    "is_progress_bar_enabled",
    "log_levels",
    "remove_handler",
    "set_verbosity",
    "set_verbosity_debug",
    "set_verbosity_error",
    "set_verbosity_info",
    "set_verbosity_warning",
    "tqdm",
]

VERBOSITY = "TRLX_VERBOSITY"
log_levels = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}

_bars_shown = True


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time of the message, not at the time of the import."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


_default_handler = _StderrHandler()


class MultiProcessAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger that only rank 0 writes to, unless a call says `ranks=[...]`; an empty list means every rank."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log on the ranks named, as numbers or text; other keyword arguments are those of `logging.Logger.log`."""
        wanted = {str(rank) for rank in kwargs.pop("ranks", [0])}
        if not wanted or _rank() in wanted:
            kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the caller's line, not this one
            super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[RANK {_rank()}] {msg}", kwargs


def _rank() -> str:
    return os.environ.get("RANK", "0")


@functools.cache
def _library() -> logging.Logger:
    """The logger above all of this package's, with its handler and level set at the first use."""
    logger = logging.getLogger(__name__.split(".")[0])
    logger.addHandler(_default_handler)
    logger.propagate = False
    logger.setLevel(INFO)
    asked = os.environ.get(VERBOSITY, "").lower()
    if asked in log_levels:
        logger.setLevel(log_levels[asked])
    elif asked:
        logger.warning("unknown %s=%s: choose one of %s", VERBOSITY, asked, ", ".join(log_levels))
    return logger


def get_logger(name: str | None = None) -> MultiProcessAdapter:
    """The logger of a module (`get_logger(__name__)`), or the package's own."""
    library = _library()
    return MultiProcessAdapter(library if name is None else logging.getLogger(name), {})


def get_verbosity() -> int:
    """The lowest level that is shown, as a number: 10 debug, 20 info, 30 warning, 40 error, 50 critical."""
    return _library().getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Show messages of this level and above, e.g. `logging.WARNING`."""
    _library().setLevel(verbosity)


def set_verbosity_debug() -> None:
    """Show everything."""
    set_verbosity(DEBUG)


def set_verbosity_info() -> None:
    """Show what happens, warnings and errors."""
    set_verbosity(INFO)


def set_verbosity_warning() -> None:
    """Show warnings and errors."""
    set_verbosity(WARNING)


def set_verbosity_error() -> None:
    """Show errors."""
    set_verbosity(ERROR)


def disable_default_handler() -> None:
    """Write nothing to stderr."""
    _library().removeHandler(_default_handler)


def enable_default_handler() -> None:
    """Write to stderr, as at the start."""
    _library().addHandler(_default_handler)


def add_handler(handler: logging.Handler) -> None:
    """Send messages to another place too, e.g. a `logging.FileHandler`."""
    _library().addHandler(handler)


def remove_handler(handler: logging.Handler) -> None:
    """Stop sending messages to a handler that was added."""
    _library().removeHandler(handler)


def disable_propagation() -> None:
    """Keep messages from the root logger's handlers, as at the start."""
    _library().propagate = False


def enable_propagation() -> None:
    """Let the root logger's handlers have the messages too; `disable_default_handler` avoids seeing them twice."""
    _library().propagate = True


def is_progress_bar_enabled() -> bool:
    """Whether `tqdm` draws bars."""
    return _bars_shown


def enable_progress_bar() -> None:
    """Let `tqdm` draw bars, as at the start."""
    global _bars_shown
    _bars_shown = True


def disable_progress_bar() -> None:
    """Let `tqdm` only iterate and count."""
    global _bars_shown
    _bars_shown = False


def tqdm(*args: Any, disable: bool = False, **kwargs: Any) -> Any:
    """A bar of `tqdm.auto` with the same arguments, drawn unless `disable_progress_bar` or `disable` says otherwise."""
    return _Bar(*args, disable=disable or not _bars_shown, **kwargs)
