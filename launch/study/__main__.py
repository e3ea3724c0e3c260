"""`python -m launch.study COMMAND --root R`: experiments on a finished miniature run, each a table and a study.json.

    python -m launch.study overoptimization --root runs/demo --seeds 1,2,3,4,5
    python -m launch.study conservative --root runs/demo

What is finished is not done again: an interrupted study is gone on with by the same command.
"""

from __future__ import annotations

from collections.abc import Sequence

from trlx.utils.commands import Commands
from trlx.utils.errors import run_main

COMMANDS = Commands(
    "python -m launch.study",
    {
        "overoptimization": (
            "launch.study.overoptimization",
            "PPO without a KL penalty against a reward model that favours length",
        ),
        "conservative": (
            "launch.study.conservative",
            "the same pressure on careful rewards: ensembles, length penalty",
        ),
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch. Raises: UserError naming the nearest command for an unknown one."""
    COMMANDS.run(argv)


if __name__ == "__main__":
    run_main(main)
