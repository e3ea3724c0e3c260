"""`python -m tasks COMMAND`: what can be done with data before any training."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from trlx.utils.errors import UserError, nearest, run_main

# command → (module with a `main(argv)`, what it does); imported when it is asked for, so that help is quick
COMMANDS = {
    "inspect": ("tasks.inspection.command", "show what is in posts or pairs: counts, bad rows, lengths, duplicates"),
    "convert": ("tasks.convert", "write posts or pairs in another format"),
}


def usage() -> str:
    """The help."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    head = "usage: python -m tasks COMMAND DATA [options]\n\ncommands (each has --help):"
    return "\n".join([head, *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch. Raises: UserError naming the nearest command for an unknown one."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if not argv:
        raise UserError(f"a command is needed: python -m tasks {' or '.join(COMMANDS)} (--help says more)")
    if argv[0] not in COMMANDS:
        raise UserError(f"unknown command '{argv[0]}'{nearest(argv[0], COMMANDS)}")
    sys.argv[0] = f"python -m tasks {argv[0]}"  # how the command's own help calls it
    try:
        importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run_main(main)
