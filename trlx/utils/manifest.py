"""What a checkpoint was made of: size and SHA-256 of every file, so that a torn or altered one shows.

The manifest is the last file written, before the folder is flushed and renamed into place. Left out: signatures. Who
can write the folder can write its manifest too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trlx.utils import logging
from trlx.utils.digest import file_digest
from trlx.utils.errors import UserError
from trlx.utils.files import write_json

MANIFEST_FILE = "manifest.json"
FORMAT = 1
log = logging.get_logger(__name__)
_READERS = 8  # hashing lets other threads run


def write_manifest(folder: Path) -> None:
    """List the files below `folder`; one process only, once all of them are written.

    Raises: OSError where a file cannot be read or the list not be written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_FILE)
    names = [path.relative_to(folder).as_posix() for path in files]
    listed = zip(names, files, _digests(files), strict=True)
    entries = {name: {"bytes": path.stat().st_size, "sha256": digest} for name, path, digest in listed}
    write_json(folder / MANIFEST_FILE, {"format": FORMAT, "files": entries})


def damage(folder: Path) -> str | None:
    """What is wrong with a folder that should have a manifest, in words; None where every listed file is as written.

    Files that are not listed do not count.
    """
    try:
        return _damage(folder, _entries(folder))
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({os.strerror(error.errno or 0)})"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST_FILE} is damaged"


def require_whole(folder: Path) -> None:
    """Raises: UserError naming the file that is missing or not as it was written."""
    trouble = damage(folder)
    if trouble is not None:
        raise UserError(f"{folder} is no whole checkpoint ({trouble}): resume from another one")


def first_whole(newest_first: Iterable[Path]) -> Path | None:
    """The first of some checkpoints that is whole, or None; each one passed over is warned of."""
    for folder in newest_first:
        trouble = damage(folder)
        if trouble is None:
            return folder
        log.warning(f"{folder} is no whole checkpoint ({trouble}) and is passed over")
    return None


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ValueError("a manifest of another version")
    return dict(content["files"])


def _damage(folder: Path, entries: dict[str, dict[str, Any]]) -> str | None:
    for name, entry in entries.items():  # sizes first: they cost nothing
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
    digests = _digests([folder / name for name in entries])
    changed = (
        name for (name, entry), digest in zip(entries.items(), digests, strict=True) if digest != entry["sha256"]
    )
    first = next(changed, None)
    return None if first is None else f"{first} is not as it was written"


def _digests(files: list[Path]) -> list[str]:
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(file_digest, files))
