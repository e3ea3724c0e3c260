"""Files and folders are whole or absent, whenever the process is killed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trlx.utils.files import publish, recover, replacing_folder, staging_path, write_json, write_text


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """The `call`-th use (from 1) of `os.<name>` ends the process before it happens."""
    original, calls = getattr(os, name), [0]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(os, name, counted)


def folder_with(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "weights").write_text(text)
    return path


def test_text_is_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "old")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "replace", 1)
        write_text(path, "new")
    assert path.read_text() == "old"
    write_text(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert [item.name for item in path.parent.iterdir() if not item.name.startswith(".")] == ["a.txt"]


def test_json_keeps_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "é"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "é"}
    assert "é" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_publish_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder_with(tmp_path / "ck", "old")
    publish(folder_with(staging_path(tmp_path / "ck"), "new"), tmp_path / "ck")
    assert (tmp_path / "ck" / "weights").read_text() == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["ck"]


@pytest.mark.parametrize(("rename", "expected"), [(1, "old"), (2, "old")])
def test_a_kill_at_either_rename_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int, expected: str
) -> None:
    path = folder_with(tmp_path / "ck", "old")
    staging = folder_with(staging_path(path), "new")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "rename", rename)
        publish(staging, path)
    assert path.exists() == (rename == 1)
    recover(path)
    assert (path / "weights").read_text() == expected
    recover(path)  # again: nothing to do
    # the next save starts over and stands
    publish(staging, path)
    assert (path / "weights").read_text() == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["ck"]


def test_publishing_again_without_recovering_keeps_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_with(tmp_path / "ck", "old")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "rename", 2)
        publish(folder_with(staging_path(path), "new"), path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, "rename", 1)  # killed a second time, before anything stands
        publish(staging_path(path), path)
    recover(path)
    assert (path / "weights").read_text() == "old"


def test_replacing_folder_appears_only_without_an_error(tmp_path: Path) -> None:
    path = folder_with(tmp_path / "out", "old")
    with pytest.raises(Killed), replacing_folder(path) as aside:
        (aside / "weights").write_text("half")
        raise Killed
    assert (path / "weights").read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]
    with replacing_folder(path) as aside:
        (aside / "weights").write_text("new")
    assert (path / "weights").read_text() == "new"
