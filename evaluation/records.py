"""The options of the stage that wrote a model, as its record beside it has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.run_folder import read_record


def noted_options(folder: str | Path) -> dict[str, Any]:
    """The options of the stage that wrote a model; empty for a hub id, and where there is no record to be read."""
    options = (read_record(Path(folder)) or {}).get("options")
    return options if isinstance(options, dict) else {}
