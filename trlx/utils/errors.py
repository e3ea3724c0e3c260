"""Errors a person can act on: one line, exit code 2, no traceback.

`UserError` is for what the person running a command can mend (a missing file, a wrong key, too few devices).
Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

EXIT_USER_ERROR = 2


class UserError(ValueError):
    """A mistake in the input; the message names the file, line or key and the remedy, on one line."""


class MissingPackageError(UserError, ModuleNotFoundError):
    """An optional package is not installed; the message says how to get it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known name closest to `name`, or a list of all if none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def fail(message: str) -> NoReturn:
    """Print `error: message` on one line of stderr and exit with code 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr, flush=True)
    sys.exit(EXIT_USER_ERROR)


def run_main(main: Callable[[], object]) -> None:
    """Run a script's `main`, turning `UserError` into one line and exit code 2."""
    try:
        main()
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
