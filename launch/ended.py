"""Whether a training stage came to its end, which its exit code alone does not tell.

A stage that a signal stopped saves and exits with 0, and so does DeepSpeed's launcher where a signal killed what it
started. The stage's own record (`run.json`) says `finished` once it has. Left out: stages that train nothing.
"""

from __future__ import annotations

from pathlib import Path

from launch.outputs import RUN_FILE, read_record


def says_finished(folder: Path) -> bool | None:
    """What the record in a stage's folder says; None where there is none that can be read."""
    record = read_record(folder)
    return None if record is None else bool(record.get("finished"))


class Ending:
    """Made before a stage starts, asked once it has exited with 0.

    Args:
        folder: where the stage keeps its record; None for a stage without one.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._before = self._written()

    def stopped_early(self) -> bool:
        """Whether the stage was stopped before its end: its record says so, or is still that of an earlier start.

        Where there is no record at all it is not: the stage may have been told to write elsewhere.
        """
        if self.folder is None or says_finished(self.folder) is None:
            return False
        return self._written() == self._before or not says_finished(self.folder)

    def _written(self) -> int | None:
        path = None if self.folder is None else self.folder / RUN_FILE
        return path.stat().st_mtime_ns if path is not None and path.is_file() else None
