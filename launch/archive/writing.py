"""An archive on the disk: files linked or copied aside, listed with their checksums, renamed into place.

What is there is never written over: a name that is taken is refused. Left out: compression; weights hardly shrink.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.archive.contents import LINKED
from trlx.utils.disk import nearest_folder, require_disk, require_writable, writing
from trlx.utils.errors import UserError
from trlx.utils.files import fsync_tree, fsync_tree_top, staging_path, write_json
from trlx.utils.lock import holding
from trlx.utils.manifest import write_manifest

ARCHIVE_FILE = "archive.json"
MARGIN = 1_000_000  # bytes for the folders, the manifest and archive.json


def write_archive(path: Path, root: Path, files: Sequence[Path], facts: dict[str, Any]) -> int:
    """Make the archive `path` of files below `root`; a kill leaves it whole or absent.

    Args:
        facts: of `archive.json`.

    Returns: bytes that it shares with the run.
    Raises: UserError for a name that is taken or a disk without room; OSError for one that fills up all the same.
    """
    require_writable(path.parent, "--to")
    shared = [file for file in files if file.suffix in LINKED and _same_disk(file, path)]
    copied = sum(file.stat().st_size for file in files) - sum(file.stat().st_size for file in shared)
    require_disk(path.parent, copied + MARGIN, f"{len(files)} files of the run", "choose another --to")
    with holding(path):
        _require_free(path)
        staging = staging_path(path)
        shutil.rmtree(staging, ignore_errors=True)  # what a kill left
        try:
            linked = sum(_keep(file, staging / file.relative_to(root), file in set(shared)) for file in files)
            write_json(staging / ARCHIVE_FILE, facts)
            write_manifest(staging)
            fsync_tree(staging)
            _require_free(path)
            os.rename(staging, path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        fsync_tree_top(path.parent)
    return linked


def _require_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} is there already, and an archive is never written over: give another --name or --to")


def _same_disk(file: Path, path: Path) -> bool:
    return file.stat().st_dev == nearest_folder(path.parent).stat().st_dev


def _keep(file: Path, target: Path, link: bool) -> int:
    """One file; returns the bytes that are shared."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            try:
                os.link(file, target)
            except OSError:  # a disk without links, or of another owner
                link = False
        if not link:
            shutil.copy2(file, target)
    return target.stat().st_size if link else 0
