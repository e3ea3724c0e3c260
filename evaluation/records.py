"""What a stage noted of itself beside the model it wrote: its options.

Left out: everything else of the record, which those who start stages look at (`launch.outputs`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = "run.json"


def noted_options(folder: str | Path) -> dict[str, Any]:
    """The options of the stage that wrote a model; empty for a hub id, and where there is no record to be read."""
    try:
        options = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return options if isinstance(options, dict) else {}
