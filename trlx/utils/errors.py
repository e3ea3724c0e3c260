"""Errors a person can act on: one line, exit code 2, no traceback.

`UserError` is for what the person running a command can mend (a missing file, a wrong key, too few devices), and so
are errors of the disk (full, read-only, not ours). Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

EXIT_USER_ERROR = 2
# Seconds that the other ranks let the main rank speak first; its launcher ends them meanwhile.
SILENCE = 5.0
MOST_LISTED = 12  # names in a message


class UserError(ValueError):
    """A mistake in the input; the message names the file, line or key and the remedy, on one line."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class BadKey(UserError):
    """A mistake under one key of a configuration.

    Args:
        key: dotted, e.g. "train.seed"; what shows the message may know the key's line.
        message: as of any `UserError`.
    """

    def __init__(self, key: str, message: str):
        self.key = key
        super().__init__(message)


class MissingPackageError(UserError, ModuleNotFoundError):
    """An optional package is not installed; the message says how to get it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known name closest to `name`, or a list of them if none is close.

    A dotted name is close when it is so as a whole, or in its last part: `seed` is close to `train.seed`.
    """
    known = sorted(known)
    closest = max(known, key=lambda one: (_likeness(name, one), one), default=None)
    if closest is not None and _likeness(name, closest) >= 0.5:
        return f"; did you mean '{closest}'?"
    more = f", ... ({len(known)} in all)" if len(known) > MOST_LISTED else ""
    return f"; known: {', '.join(known[:MOST_LISTED])}{more}" if known else ""


def _likeness(name: str, known: str) -> float:
    """From 0 (nothing in common) to 1 (the same); a likeness of last parts alone counts a little less."""
    whole = difflib.SequenceMatcher(None, known, name).ratio()
    last = difflib.SequenceMatcher(None, known.rpartition(".")[2], name.rpartition(".")[2]).ratio()
    return max(whole, 0.9 * last)


def one_line(text: object) -> str:
    """The text with every run of white space as one space, and what cannot be printed escaped."""
    line = " ".join(str(text).split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in line)


def fail(message: str) -> NoReturn:
    """Print `error: message` on one line of stderr and exit with code 2.

    Where there are several ranks the others wait before they speak: as a rule they have met the same mistake.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(SILENCE)
    line = "error: " + one_line(message)
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)  # on a line of its own, whatever bars are being drawn
    else:
        print(line, file=sys.stderr)
    sys.stderr.flush()
    sys.exit(EXIT_USER_ERROR)


def run_main(main: Callable[[], object]) -> None:
    """Run a script's `main`, turning `UserError` and errors of the disk into one line and exit code 2."""
    from trlx.utils.disk import disk_trouble

    def of_thread(failed: threading.ExceptHookArgs) -> None:
        # What writes in a thread (TensorBoard) raises its error in the main thread too.
        if failed.exc_value is None or disk_trouble(failed.exc_value) is None:
            threading.__excepthook__(failed)

    threading.excepthook = of_thread
    try:
        main()
    except UserError as error:
        fail(str(error))
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        fail(trouble)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
