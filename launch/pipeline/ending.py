"""How a stage ended, which its exit code alone does not tell, and the lines that say so."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from launch.pipeline.stages import STAGES
from tasks.run_folder import RunFolder
from trlx.utils.errors import one_line

# How the engine says that a signal stopped it, after which it exits with 0 (`trlx.trainer.stopping`).
STOPPED = "training stops after step"
MOST_LINES, MOST_BYTES = 12, 20_000


def describe(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"failed with code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def last_lines(log: Path, offset: int = 0) -> list[str]:
    """The last lines of a log, from `offset` bytes on, without progress bars' many states."""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - MOST_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [one_line(line.rpartition("\r")[2]) for line in text.replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line][-MOST_LINES:]


def stopped_early(stage: str, folder: RunFolder, offset: int) -> bool:
    """Whether a stage that exited with 0 did so before its end: a signal stopped it, or its launcher was killed.

    Args:
        offset: where in the stage's log this start of it begins.
    """
    if STAGES[stage].launcher == "deepspeed":
        # DeepSpeed's launcher exits with 0 when a signal kills what it started.
        record = STAGES[stage].out(folder) / "run.json"  # type: ignore[misc]
        return record.is_file() and not json.loads(record.read_text(encoding="utf-8")).get("finished")
    return any(STOPPED in line for line in last_lines(folder.log(stage), offset))
