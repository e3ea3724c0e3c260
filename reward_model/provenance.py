"""Which posts a reward model was trained on, kept beside it as hashes, so that others can tell whether theirs are new.

A judge that shares posts with the model it checks on, or a test on posts that were trained on, proves little. Hashes
rather than texts: small, and they hand no data on. Left out: near duplicates (`python -m tasks inspect` finds those).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from trlx.utils.disk import writing
from trlx.utils.errors import UserError
from trlx.utils.files import fsync_tree

POSTS_FILE = "training_posts.npy"


def post_hashes(prompts: Iterable[str]) -> np.ndarray:
    """Sorted unique 64-bit hashes (uint64) of prompts; case and white space do not count.

    BLAKE2b: the same on every machine and in every session, unlike Python's own `hash`.
    """
    distinct = {_digest(prompt) for prompt in prompts}
    return np.unique(np.frombuffer(b"".join(distinct), dtype="<u8").astype(np.uint64))


def _digest(prompt: str) -> bytes:
    plain = " ".join(prompt.lower().split())
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=8).digest()


def write_training_posts(folder: str | os.PathLike[str], prompts: Iterable[str]) -> int:
    """Write the hashes of the prompts that a model was trained on beside it; returns how many distinct ones."""
    hashes, path = post_hashes(prompts), Path(folder) / POSTS_FILE
    aside = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        with writing(path):
            with aside.open("wb") as file:
                np.save(file, hashes, allow_pickle=False)
            fsync_tree(aside)
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return len(hashes)


def shared_posts(folder: str | os.PathLike[str], other: Iterable[str] | os.PathLike[str]) -> int | None:
    """How many posts of `other` a reward model was trained on; None where that is not known.

    Args:
        folder: of the reward model.
        other: prompts, counted once each; or, as a path, the folder of another reward model.

    Raises: UserError for a file that is broken.
    """
    mine = read_training_posts(folder)
    theirs = read_training_posts(other) if isinstance(other, os.PathLike | str) else post_hashes(other)
    if mine is None or theirs is None:
        return None
    return len(np.intersect1d(mine, theirs, assume_unique=True))


def read_training_posts(folder: str | os.PathLike[str]) -> np.ndarray | None:
    """The hashes beside a model, or None. Raises: UserError for a file that is broken."""
    path = Path(folder) / POSTS_FILE
    if not path.is_file():
        return None
    try:
        hashes = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not the array of hashes that training writes ({error}): {_REMEDY}") from error
    if not isinstance(hashes, np.ndarray) or hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise UserError(f"{path}: not the array of hashes that training writes: {_REMEDY}")
    return np.unique(hashes)


_REMEDY = "copy it anew from where the model was trained, or remove it"
