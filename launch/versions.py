"""The versions that decide what comes out of a run, for its record."""

from __future__ import annotations

import contextlib
import platform
from importlib import metadata

PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "datasets", "tokenizers", "numpy")


def versions() -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
