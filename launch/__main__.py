"""`python -m launch COMMAND`: planning a run, looking at the machine, starting the stages."""

from __future__ import annotations

from collections.abc import Sequence

from trlx.utils.commands import Commands
from trlx.utils.errors import run_main

COMMANDS = Commands(
    "python -m launch",
    {
        "plan": ("launch.plan.command", "memory and time of every stage, what fits, and the files to start it"),
        "doctor": ("launch.doctor", "look at versions, devices, disk, tokenizers and models before training"),
        "describe": ("launch.describe.command", "a model's parts, shapes and parameters, from its config alone"),
        "run": ("launch.pipeline", "run the stages on one device, one machine or several"),
        "archive": ("launch.archive", "keep a run with its configuration, time and results; list what is kept"),
        "ray": ("launch.ray_jobs", "run the stages as Ray Train jobs"),
    },
)


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch. Raises: UserError naming the nearest command for an unknown one."""
    COMMANDS.run(argv)


if __name__ == "__main__":
    run_main(main)
