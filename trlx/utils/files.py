"""Files that are whole or absent: written aside, flushed to disk, then renamed into place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trlx.utils.disk import writing


def fsync_tree(path: Path) -> None:
    """Flush a file, or every file and folder below a folder, to the disk."""
    paths = [path, *path.rglob("*")] if path.is_dir() else [path]
    for item in paths:
        descriptor = os.open(item, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing-{os.getpid()}")
    try:
        with writing(path):
            aside.write_text(text, encoding="utf-8", newline="")
            fsync_tree(aside)
            os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """`write_text` of indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def staging_path(path: str | Path) -> Path:
    """The folder beside `path` in which its next content is prepared; the same on every rank."""
    path = Path(path)
    return path.with_name(f".{path.name}.writing")


def publish(staging: str | Path, path: str | Path) -> None:
    """Flush `staging` and rename it to `path`; an older `path` is removed only after the new one stands.

    A kill between the two renames leaves the older content at `.NAME.old`, from which `recover` puts it back.
    """
    staging, path = Path(staging), Path(path)
    old = path.with_name(f".{path.name}.old")
    fsync_tree(staging)
    if old.exists() and path.exists():
        shutil.rmtree(old)
    if path.exists():
        os.rename(path, old)
    os.rename(staging, path)
    fsync_tree_top(path.parent)
    if old.exists():
        shutil.rmtree(old)


def merge(staging: str | Path, path: str | Path, last: str) -> None:
    """Flush `staging` and move its files one by one into the folder `path`, whose other files stay; remove `staging`.

    Each file is the old or the new one at any time, the folder as a whole is not.

    Args:
        staging: on the same disk as `path`. last: name of the file that is moved after all others.
    """
    staging, path = Path(staging), Path(path)
    fsync_tree(staging)
    names = [item.relative_to(staging) for item in sorted(staging.rglob("*")) if not item.is_dir()]
    for name in sorted(names, key=lambda name: name == Path(last)):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / name, path / name)
    for folder in {(path / name).parent for name in names} | {path}:
        fsync_tree_top(folder)
    shutil.rmtree(staging)


def recover(path: str | Path) -> None:
    """Put back what a kill in the middle of `publish` left aside."""
    path = Path(path)
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        os.rename(old, path)


def fsync_tree_top(folder: Path) -> None:
    """Flush a folder's own entries (renames in it), not the files below."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends without an error (one process only)."""
    staging = staging_path(path)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    publish(staging, path)
