"""What a run left that another run of the same settings must leave too, bit for bit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# Times, and what is made of them; event files have times in every record.
TIMED = ("time", "seconds", "runtime", "per_second", "started")
NAMED = "rollout_log"  # a run's rollout log has a name drawn anew for each run
LEFT_OUT = ("events.out.tfevents", "training_args.bin", "run.json", "manifest.json")
# Which of a step's checkpoints was the one before the last depends on where the run was killed.
LEFT_OUT_FOLDERS = (".cache", "previous_resume_checkpoint")


def outcome(folder: Path) -> dict[str, Any]:
    """File below `folder` → its content without times and places: JSON as values, anything else as a digest.

    A run's record (run.json) tells whether it was resumed, a manifest the digests of all else, and a pickle of the
    Trainer's arguments its folder: they are left out.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not {*LEFT_OUT_FOLDERS} & {*path.parts})
    kept = [path for path in files if not any(name in path.name for name in LEFT_OUT)]
    return {path.relative_to(folder).as_posix(): _content(path, str(folder)) for path in kept}


def _content(path: Path, folder: str) -> Any:
    if path.suffix == ".json":
        return _untimed(json.loads(path.read_text().replace(folder, "")))
    if path.suffix == ".jsonl":
        return [_untimed(json.loads(line)) for line in path.read_text().splitlines()]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _untimed(one) for name, one in value.items() if not any(word in name for word in (*TIMED, NAMED))}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two outcomes differ, a line each."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted({*ours, *theirs})
        pairs = [(ours.get(name, "nothing"), theirs.get(name, "nothing"), f"{where}/{name}") for name in names]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [(one, other, f"{where}[{index}]") for index, (one, other) in enumerate(zip(ours, theirs, strict=True))]
    else:
        return [] if ours == theirs else [f"{where}: {str(ours)[:200]} instead of {str(theirs)[:200]}"]
    return [line for one, other, place in pairs for line in differences(one, other, place)]
