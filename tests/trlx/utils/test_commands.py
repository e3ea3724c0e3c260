"""One dispatcher for every `python -m PACKAGE COMMAND`: what it imports, what it calls, what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trlx.utils.commands import Commands
from trlx.utils.errors import UserError

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Two commands: one that prints what it gets, one that cannot be imported."""
    (tmp_path / "echo_command_for_test.py").write_text(
        "import sys\ndef main(argv):\n    print(sys.argv[0], '|', *argv)\n", encoding="utf-8"
    )
    (tmp_path / "broken_command_for_test.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["somewhere/__main__.py"])
    modules = {"echo": ("echo_command_for_test", "repeat"), "broken": ("broken_command_for_test", "never import")}
    return Commands("python -m demo", modules, "DATA [options]")


def test_calls_the_command_with_what_follows(commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.run(["echo", "a", "--help"])
    assert capsys.readouterr().out == "python -m demo echo | a --help\n"


def test_reads_the_command_line(
    commands: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["somewhere", "echo", "b"])
    commands.run()
    assert capsys.readouterr().out == "python -m demo echo | b\n"


@pytest.mark.parametrize("asked", ["-h", "--help", "help"])
def test_help_imports_no_command(commands: Commands, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    commands.run([asked])
    assert capsys.readouterr().out == (
        "usage: python -m demo COMMAND DATA [options]\n\ncommands (each has --help):\n"
        "  echo    repeat\n  broken  never import\n"
    )


def test_only_the_command_asked_for_is_imported(commands: Commands) -> None:
    with pytest.raises(RuntimeError, match="imported"):
        commands.run(["broken"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"a command is needed: python -m demo echo or broken \(--help says more\)"),
        (["eco"], "unknown command 'eco'; did you mean 'echo'"),
        (["--root", "x"], "unknown command '--root'; known: broken, echo"),
    ],
)
def test_no_such_command(commands: Commands, argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        commands.run(argv)


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("tasks", {"inspect", "convert"}),
        ("evaluation", {"report", "frontier", "samples", "try", "seeds", "scores", "prompts"}),
    ],
)
def test_packages_list_their_commands_without_importing_much(package: str, names: set[str]) -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['x', '--help']\n"
        f"runpy.run_module({package!r}, run_name='__main__')\n"
        "print({'datasets', 'numpy', 'torch', 'rich', 'scipy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    *lines, imported = done.stdout.splitlines()
    assert imported == "set()"
    assert {line.split()[0] for line in lines[3:]} == names


@pytest.mark.parametrize("package", ["tasks", "evaluation"])
def test_an_unknown_command_is_one_line_and_code_2(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", package, "nothing"], capture_output=True, text=True, check=False, cwd=REPO
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown command 'nothing'") and done.stderr.count("\n") == 1
