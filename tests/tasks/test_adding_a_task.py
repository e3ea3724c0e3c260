"""docs/adding-a-task.md shows the task that is there: its file, its settings, what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.__main__ import main

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "adding-a-task.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_files() -> None:
    (task,) = blocks("python")
    assert task == (REPO / "tasks" / "news.py").read_text(encoding="utf-8")
    for block, path in zip(blocks("text"), ("tasks/registry.py", "tasks/reading/columns.py"), strict=True):
        assert block in (REPO / path).read_text(encoding="utf-8")
    assert blocks("yaml") == [(REPO / "configs" / "news" / "sft.yaml").read_text(encoding="utf-8")]


def test_the_page_names_the_settings_and_their_commands() -> None:
    for path in (REPO / "configs" / "news").iterdir():
        assert f"`{path.name}`" in PAGE or f"`configs/news/{path.name}`" in PAGE
        assert f"--config configs/news/{path.name} --root runs/news\n" in blocks("bash")[0]


def test_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (row,) = blocks("json")
    Path("articles.jsonl").write_text(row, encoding="utf-8")
    command, _, shown = blocks("console")[0].partition("\n")
    main(command.removeprefix("$ python -m tasks ").split())
    printed = capsys.readouterr().out
    parts = shown.split("...\n")
    assert len(parts) == 2 and all(part and part in printed for part in parts)
