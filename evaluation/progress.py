"""What an interrupted evaluation has done already, so that `--resume` does not do it again.

Each piece of work (a model's summaries, its rewards, ...) is one file of JSON lines: a key that says what the numbers
depend on, then a line a finished chunk of posts. A file under another key, or whose last line is torn, counts only as
far as it goes. Left out: keeping anything once the evaluation is whole; `clear` removes the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trlx.utils.disk import writing

Rows = list[Any]


class Progress:
    """Finished work below a folder.

    Args:
        folder: of this evaluation alone. resume: False removes what is there.
    """

    def __init__(self, folder: str | Path, resume: bool):
        self.folder = Path(folder)
        self.reused = 0  # posts taken from an earlier run
        if not resume:
            self.clear()

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def complete(
        self,
        name: str,
        depends_on: Any,
        chunks: Sequence[Sequence[int]],
        compute: Callable[[int, Sequence[int]], Rows],
        done: Callable[[int], object] = lambda count: None,
    ) -> Rows:
        """The value of every post, computing only what is missing.

        Args:
            name: of the work, a file name. depends_on: JSON-able; other values mean other work.
            chunks: the posts' numbers 0 .. n−1, each in one chunk. compute: (number of the chunk, its posts) →
                JSON-able values in that order; the same whenever it is called.
            done: told how many posts were just finished.

        Returns: n values, in the order of the posts.
        """
        path = self.folder / f"{name}.jsonl"
        key = digest([depends_on, [list(chunk) for chunk in chunks]])
        found = _finished(path, key)
        values: dict[int, Any] = {}
        for number, posts in enumerate(chunks):
            if number in found:
                self.reused += len(posts)
            else:
                found[number] = compute(number, posts)
                _append(path, [number, found[number]], key)
            values.update(zip(posts, found[number], strict=True))
            done(len(posts))
        return [values[i] for i in range(len(values))]


def _finished(path: Path, key: str) -> dict[int, Rows]:
    """Chunks in the file, whole lines only; a file under another key is removed."""
    if not path.is_file():
        return {}
    head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    if head != json.dumps(key) + "\n":
        path.unlink()
        return {}
    whole = [line for line in lines if line.endswith("\n")]
    with path.open("r+", encoding="utf-8") as file:  # the torn line goes, or the next would be glued to it
        file.truncate(len(head.encode()) + sum(len(line.encode()) for line in whole))
    return dict(json.loads(line) for line in whole)


def _append(path: Path, line: Any, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), path.open("a", encoding="utf-8") as file:
        if file.tell() == 0:
            file.write(json.dumps(key) + "\n")
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def digest(value: Any) -> str:
    """sha256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def model_facts(path: str) -> Any:
    """What tells one state of a model folder from another without reading its weights: names, sizes, times.

    A hub id is taken by its name.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    kinds = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")
    files = sorted(file for kind in kinds for file in folder.glob(kind))
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
