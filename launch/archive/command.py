"""`python -m launch archive`: keep a run with its configuration, its time and its results; never at another's cost.

    python -m launch archive runs/2026-11-21-1
    python -m launch archive runs/demo --name first --to /data/archive
    python -m launch archive --list

An archive is NAME-DATE-TIME of when the run began. It can be read as a run's root by every command
(`python -m evaluation report --root ARCHIVE`). Left out: moving a run, taking one apart, deleting an archive.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.text import Text

from launch.archive.contents import kept_files, stage_folders
from launch.archive.facts import run_facts, unfinished
from launch.archive.listing import headline_text, read_archives, table
from launch.archive.writing import ARCHIVE_FILE, write_archive
from launch.running import Interrupted, interruptible
from tasks.run_folder import RunFolder, fill_places
from trlx.utils.cli import parse_config
from trlx.utils.disk import gigabytes
from trlx.utils.errors import UserError
from trlx.utils.lock import holding, let_go_of_all
from trlx.utils.terminal import inert, open_console

ABOUT = "Keep what is worth keeping of a run. The run's root folder is given first."
_DATED = re.compile(r"\d{4}-\d\d-\d\d-(\d+)")  # train.sh's own name for a run


@dataclass
class ArchiveOptions:
    """Options of `archive`.

    Args:
        root: the run's root folder; as a rule given first, without `--root`.
        to: the folder of archives.
        name: begins the archive's name; null for the root's own.
        checkpoints: keep checkpoints too, from which training can go on.
        unfinished: keep a run of which a stage has not finished.
        list: show what is archived in --to, and archive nothing.
        check: with --list, read every file and compare it with its checksum.
    """

    root: str | None = None
    to: str = "{repo}/runs/archive"
    name: str | None = None
    checkpoints: bool = False
    unfinished: bool = False
    list: bool = False
    check: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """The command; exits with 128 + the signal's number after one."""
    options = parse_config(ArchiveOptions, ABOUT, with_root_named(sys.argv[1:] if argv is None else argv))
    options = fill_places(options, options.root or ".")
    if options.list:
        show(options)
        return
    if options.root is None:
        raise UserError("no run: name its root folder, as in `python -m launch archive runs/2026-11-21-1`, or --list")
    try:
        with interruptible():
            archive(options, RunFolder.of(options.root))
    except Interrupted as interruption:
        print("interrupted: nothing is left of the archive", file=sys.stderr)
        sys.exit(interruption.code)
    finally:
        let_go_of_all()


def with_root_named(argv: Sequence[str]) -> list[str]:
    """`runs/a --name x` → `--root runs/a --name x`."""
    return ["--root", *argv] if argv and not argv[0].startswith("-") else list(argv)


def show(options: ArchiveOptions) -> None:
    """The table of archives. Raises: UserError where there is none."""
    if options.root is not None:
        raise UserError("--list shows the archives in --to, and a root was named: leave one of them out")
    folder = Path(options.to).resolve()
    table(folder, read_archives(folder), options.check).print(open_console())


def archive(options: ArchiveOptions, run: RunFolder) -> Path:
    """Make the archive; returns its folder.

    Raises: UserError for a root that holds no run, or one that runs, or has not finished, unless that is asked for; and
        for a name that is taken or cannot be one.
    """
    if not run.root.is_dir():
        raise UserError(f"{run.root}: no such folder: name the root folder of a run")
    if (run.root / ARCHIVE_FILE).exists():
        raise UserError(f"{run.root} is an archive: name the root folder of a run")
    with _left_alone(run):
        facts = run_facts(run)
        why = unfinished(facts)
        if why is not None and not options.unfinished:
            raise UserError(f"{run.root}: {why}: let the run finish, or keep it as it is with --unfinished")
        path = Path(options.to).resolve() / archive_name(options.name, run, facts["began"])
        files = kept_files(run, options.checkpoints)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        head = {"name": path.name, "archived": now, "run": run.root.name, "unfinished": why}
        linked = write_archive(path, run.root, files, {**head, **facts})
    size = sum(file.stat().st_size for file in files)
    shared = f", {gigabytes(linked)} of it shared with the run" if linked else ""
    console = open_console()
    console.print(Text(inert(f"archived in {path}: {len(files)} files, {gigabytes(size)}{shared}")))
    console.print(Text(inert(f"ran {facts['began']}; {headline_text(facts['results'])}")))
    return path


@contextlib.contextmanager
def _left_alone(run: RunFolder) -> Iterator[None]:
    """Nothing writes into the run as long as the block runs, neither `train.sh` nor a stage that was started alone.

    Raises: UserError for a folder into which something writes now.
    """
    with contextlib.ExitStack() as held:
        for folder in (run.root, *stage_folders(run)):
            if folder.is_dir():
                held.enter_context(holding(folder))
        yield


def archive_name(given: str | None, run: RunFolder, began: str) -> str:
    """NAME-DATE-TIME. Raises: UserError for a name that is no plain one."""
    name = given
    if name is None:
        dated = _DATED.fullmatch(run.root.name)
        name = f"run-{dated.group(1)}" if dated else run.root.name
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name):
        raise UserError(f"'{name}' is no name for an archive: give --name of letters, digits, dots and dashes")
    return f"{name}-{datetime.fromisoformat(began).strftime('%Y-%m-%d-%H%M%S')}"
