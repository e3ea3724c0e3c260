"""`python -m tasks COMMAND`: what can be done with data before any training."""

from __future__ import annotations

from collections.abc import Sequence

from trlx.utils.commands import Commands
from trlx.utils.errors import run_main

COMMANDS = Commands(
    "python -m tasks",
    {
        "inspect": (
            "tasks.inspection.command",
            "show what is in posts or pairs: counts, bad rows, lengths, duplicates",
        ),
        "convert": ("tasks.convert", "write posts, pairs or instructions in another format"),
    },
    arguments="DATA [options]",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch. Raises: UserError naming the nearest command for an unknown one."""
    COMMANDS.run(argv)


if __name__ == "__main__":
    run_main(main)
