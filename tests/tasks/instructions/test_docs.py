"""docs/instruction-data.md: its rows, commands and outputs are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.__main__ import main
from trlx.utils.errors import UserError

PAGE = (Path(__file__).parents[3] / "docs" / "instruction-data.md").read_text(encoding="utf-8")
# `name`:, an empty line, then what is in the file
FILES = re.findall(r"`([\w.]+)`:\n\n```json\n(.*?)```", PAGE, re.DOTALL)
CONSOLES = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def said(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a shell would show of a command."""
    if command.startswith("cat "):
        return Path(command.removeprefix("cat ")).read_text(encoding="utf-8")
    try:
        main(command.removeprefix("python -m tasks ").split())
    except UserError as error:
        return f"error: {error}\n"
    return capsys.readouterr().out


def test_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES:
        Path(name).write_text(content, encoding="utf-8")
    commands = re.findall(r"^\$ (.+)$", "".join(CONSOLES), re.MULTILINE)
    assert len(FILES) == len(CONSOLES) == 4 and len(commands) == 17
    assert "".join(f"$ {command}\n{said(command, capsys)}" for command in commands) == "".join(CONSOLES)
