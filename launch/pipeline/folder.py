"""A run's own folder: a new one or one to go on in, copies of its YAML files, and the record of what happened there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from launch.versions import versions
from tasks.run_folder import REPO, RunFolder
from trlx.utils.disk import require_writable
from trlx.utils.errors import UserError
from trlx.utils.files import write_json, write_text

RUNS = REPO / "runs"
# What a run's stages write below its root; a folder that holds one of these is not new.
WRITTEN = ("run.json", "ckpts", "logs", "metadata", "results.json", "configs")


def next_root(runs: Path = RUNS) -> Path:
    """The next free runs/DATE-N; nothing is made."""
    day = datetime.now().strftime("%Y-%m-%d")
    number = 1
    while (runs / f"{day}-{number}").exists():
        number += 1
    return runs / f"{day}-{number}"


def claim_new_root(runs: Path = RUNS) -> Path:
    """Make the next free runs/DATE-N, which nobody else has then."""
    require_writable(runs, "--root")
    while True:
        root = next_root(runs)
        with contextlib.suppress(FileExistsError):
            root.mkdir(parents=True)
            return root


def require_new(root: Path, how: str) -> None:
    """Refuse a folder that holds a run. Raises: UserError with `how` to go on there."""
    held = [name for name in WRITTEN if (root / name).exists()]
    if held:
        raise UserError(f"{root} already holds a run ({held[0]}): {how}, or name another --root")


def keep_copy(path: Path, text: str) -> None:
    """Write a file whose earlier content, if it was another, stays beside it under the next free number."""
    if path.exists():
        earlier = path.read_text(encoding="utf-8")
        if earlier == text:
            return
        number = 1
        while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
            number += 1
        os.rename(path, aside)
    write_text(path, text)


def write_options(folder: RunFolder, options: Mapping[str, Any], copied: Mapping[str, str]) -> None:
    """Keep the run's options and its YAML files, which they name.

    Args:
        options: to go on with later. copied: option → text of the file that it names.
    """
    for name, text in copied.items():
        keep_copy(folder.configs / f"{name}.yaml", text)
    named = {name: f"{{root}}/configs/{name}.yaml" for name in copied if options[name] is not None}
    keep_copy(folder.configs / "pipeline.yaml", yaml.safe_dump({**options, **named}, sort_keys=False))


class Record:
    """`run.json`: how the run was started each time, and the state of its stages."""

    def __init__(self, folder: RunFolder):
        self.path, self._began = folder.record, time.monotonic()
        self.facts: dict[str, Any] = {"starts": [], "stages": {}}
        if self.path.exists():
            self.facts = _read(self.path)

    def start(self, **facts: Any) -> None:
        """Note a start of the run."""
        self.facts["starts"].append({"at": _now(), **facts, "versions": versions(), "git": commit()})
        write_json(self.path, self.facts)

    def state(self, stage: str) -> str | None:
        """running, finished, failed, interrupted, or None for a stage that never began.

        One that runs while nobody holds the run's folder was killed.
        """
        return self.facts["stages"].get(stage, {}).get("state")

    def begin(self, stage: str) -> None:
        """Note that a stage runs."""
        self.facts["stages"][stage] = {"state": "running", "begun": _now()}
        self._began = time.monotonic()
        write_json(self.path, self.facts)

    def end(self, stage: str, state: str) -> float:
        """Note how a stage ended; returns the seconds it took."""
        seconds = round(time.monotonic() - self._began, 1)
        self.facts["stages"][stage] |= {"state": state, "seconds": seconds}
        write_json(self.path, self.facts)
        return seconds


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "starts": list(facts["starts"]), "stages": dict(facts["stages"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a record of train.sh's: name another --root") from error


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def commit(repo: Path = REPO) -> dict[str, Any] | None:
    """The commit that runs and whether files differ from it; None without git or outside a repository."""
    try:
        head = _git(repo, "rev-parse", "HEAD")
        return {"commit": head, "dirty": bool(_git(repo, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(repo: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repo), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
