"""What tells one model or file from another: digests of contents."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

# Configuration, weights, and what turns text into ids: another of these gives other outputs.
_OF_A_MODEL = (
    "config.json",
    "*.safetensors",
    "pytorch_model*.bin",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)


def model_digest(folder: str | os.PathLike[str]) -> str:
    """SHA-256 over configuration, weights and tokenizer files of a folder, in the order of their names."""
    files = sorted({path for pattern in _OF_A_MODEL for path in Path(folder).glob(pattern)})
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
