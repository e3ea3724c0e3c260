"""Checkpoints in a folder: their names, which of them a run goes on from, which are removed as too many."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from trlx.utils.checkpoints import STATE_FILE
from trlx.utils.errors import UserError
from trlx.utils.manifest import first_whole

RESUME_NAME = "resume_checkpoint"
PREVIOUS_NAME = "previous_resume_checkpoint"  # what the rolling one was before, should the disk damage it
BEST_NAME, BEST_HELDOUT_NAME = "best_checkpoint", "best_heldout_checkpoint"
# Of one step, in the order in which they are written: a later one may know more.
WRITTEN = (BEST_HELDOUT_NAME, BEST_NAME, "checkpoint_N", RESUME_NAME)


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a resumable checkpoint. Raises: UserError when `folder` is none."""
    try:
        return json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} is no checkpoint to resume from (it needs {STATE_FILE}): give another one"
        ) from error


def find_resumable(checkpoint_dir: str | Path) -> Path | None:
    """The whole checkpoint of the latest step below `checkpoint_dir`, of one step the one written last, or None.

    One that is damaged is warned of and passed over. One process only: every byte is read.
    """
    found = [path.parent for path in Path(checkpoint_dir).glob(f"*/{STATE_FILE}")]
    placed = [path for path in found if not path.name.startswith(".") or path.name.endswith(".old")]
    return first_whole(sorted(placed, key=lambda path: (_step(path), _written(path.name)), reverse=True))


def _step(folder: Path) -> int:
    """Of a checkpoint; of one whose state cannot be read the highest, so that it is looked at, and warned of, first."""
    try:
        return int(read_state(folder)["iter_count"])
    except (UserError, KeyError, TypeError, ValueError):
        return sys.maxsize


def _written(name: str) -> int:
    """The place of a checkpoint's name in `WRITTEN`, also of one that stands aside as `.NAME.old`."""
    plain = name.removeprefix(".").removesuffix(".old")
    return WRITTEN.index(plain if plain in WRITTEN else "checkpoint_N")


def evict(checkpoint_dir: str | Path, keep: int | None, step: int | None = None) -> None:
    """Remove the oldest `checkpoint_N` folders until `keep` are left; None keeps all. One process only.

    Args:
        step: the present one. Its checkpoint stays, and those with a higher number, which are not of this run, stay
            and do not count; None counts all.
    """
    if keep is None:
        return
    numbers = {path: int(path.name[11:]) for path in Path(checkpoint_dir).glob("checkpoint_*") if _is_numbered(path)}
    oldest_first = sorted((path for path in numbers if step is None or numbers[path] <= step), key=numbers.__getitem__)
    for path in oldest_first[: max(0, len(oldest_first) - keep)]:
        if numbers[path] != step:
            shutil.rmtree(path)


def _is_numbered(path: Path) -> bool:
    return path.name[11:].isdecimal() and path.is_dir() and not path.is_symlink()
