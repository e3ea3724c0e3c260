"""What of a run's options is another than before when it is gone on with: allowed, and said.

Left out: what cannot be resumed at all (other ranks, another model), which is refused where the checkpoint is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launch.outputs import read_record

# Options of a start, by the last part of their names, and those that change where things lie but no number.
OF_A_START = {
    *("root", "out", "overwrite", "resume", "resume_from_checkpoint", "preflight", "cache", "deepspeed"),
    *("save_steps", "save_total_limit", "log_steps", "checkpoint_dir", "logging_dir", "tracker"),
    *("checkpoint_interval", "resume_interval", "keep_checkpoints", "accept_failing_reward_model"),
}


def changed_options(folder: Path, options: Any) -> str | None:
    """A line that names each option of which the record in `folder` has another value, or None.

    Args:
        folder: of the stage's record, before it is written anew. options: a dataclass, places filled.
    """
    before = (read_record(folder) or {}).get("options")
    if not isinstance(before, dict) or "root" not in before:
        return None
    earlier = dict(_flat(before, str(before["root"])))
    now = dict(_flat(json.loads(json.dumps(dataclasses.asdict(options))), options.root))
    changes = [
        f"{name} {earlier[name]} → {value}"
        for name, value in now.items()
        if name.rpartition(".")[2] not in OF_A_START and name in earlier and earlier[name] != value
    ]
    if not changes:
        return None
    return f"resuming with other options than before, so not to the same run: {', '.join(changes)}"


def _flat(values: Mapping[str, Any], root: str, above: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name → value as JSON, in which the run's root is a placeholder."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, root, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value).replace(root, "{root}")
