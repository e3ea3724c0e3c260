"""`python -m PACKAGE COMMAND`: help, the command's module imported when it is asked for, and its `main(argv)` called.

Left out: options common to all commands; each module parses its own (`trlx.utils.cli`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trlx.utils.errors import UserError, nearest


@dataclass(frozen=True)
class Commands:
    """The commands of one package.

    Args:
        program: how it is called, e.g. `python -m tasks`.
        modules: command → (module with a `main(argv)`, what it does). Imported only when asked for, so that help is
            quick.
        arguments: what follows a command, for the help.
    """

    program: str
    modules: Mapping[str, tuple[str, str]]
    arguments: str = "[options]"

    def usage(self) -> str:
        """The help."""
        width = max(map(len, self.modules))
        lines = [f"  {name:{width}}  {about}" for name, (_, about) in self.modules.items()]
        head = f"usage: {self.program} COMMAND {self.arguments}\n\ncommands (each has --help):"
        return "\n".join([head, *lines])

    def run(self, argv: Sequence[str] | None = None) -> None:
        """Call the command that `argv` (None: the command line) begins with.

        Raises: UserError for no command, and for an unknown one, naming the nearest.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        if argv and argv[0] in ("-h", "--help", "help"):
            print(self.usage())
            return
        if not argv:
            raise UserError(f"a command is needed: {self.program} {' or '.join(self.modules)} (--help says more)")
        if argv[0] not in self.modules:
            raise UserError(f"unknown command '{argv[0]}'{nearest(argv[0], self.modules)}")
        sys.argv[0] = f"{self.program} {argv[0]}"  # how the command's own help calls it
        try:
            importlib.import_module(self.modules[argv[0]][0]).main(argv[1:])
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read the output, `head` perhaps, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
