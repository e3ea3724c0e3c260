"""What tells one model from another: a digest of its files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def model_digest(folder: str | os.PathLike[str]) -> str:
    """SHA-256 over config.json and the safetensors files of a folder, in the order of their names."""
    files = sorted([*Path(folder).glob("config.json"), *Path(folder).glob("*.safetensors")])
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
