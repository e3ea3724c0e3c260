"""A file of settings: its values, the line of each, and its text, read with limits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trlx.utils.errors import BadKey, UserError
from trlx.utils.strict import show

MAX_BYTES = 2**20


@dataclass(frozen=True)
class SettingsFile:
    """A file's settings, and the line that each was read from."""

    path: str
    values: dict[str, Any]
    lines: dict[str, int]  # dotted key → line, counted from 1

    def refusal(self, error: UserError) -> UserError:
        """The error with the file's name, and the line of its key or of the closest section around it."""
        where = self.path
        key = error.key if isinstance(error, BadKey) else ""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return UserError(f"{where}, line {self.lines[key]}: {error}" if key else f"{where}: {error}")


def read_settings(path: Path, kind: str) -> str:
    """The text of a file of settings, without a byte order mark.

    Args:
        kind: what the file should be, e.g. "YAML file", for messages.

    Raises: UserError for what is no file, cannot be read, is no UTF-8 or has more than `MAX_BYTES`.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path}: is {'a folder' if os.path.isdir(path) else 'no regular file'}: name a {kind}")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: check the name; paths are relative to the current folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{show(str(path))}: cannot be read ({reason}): name a {kind}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: over {MAX_BYTES // 2**20} MiB, too large for a configuration: name a {kind}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text: save the file as UTF-8") from error
