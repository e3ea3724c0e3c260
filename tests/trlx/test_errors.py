"""One line and exit code 2 for what a person can mend, a traceback for bugs; which of several ranks speaks first."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trlx.utils import errors
from trlx.utils.errors import UserError, nearest, one_line, run_main


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a\nb  c"), "error: a b c\n"),
        (OSError(errno.ENOSPC, "", "out/x"), "error: out/x: No space left on device: free some space there"),
        (OSError(errno.ENOSPC, ""), "error: cannot write a file: No space left on device: free"),
        (PermissionError(errno.EACCES, "", b"out/x"), "error: out/x: Permission denied: change its permissions"),
        (OSError(errno.EROFS, "", "x"), "error: x: Read-only file system: write elsewhere"),
    ],
)
def test_what_a_person_can_mend(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(raising(error))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        OSError(errno.EBADF, "Bad file descriptor", "x"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        PermissionError(errno.EPERM, "Operation not permitted"),  # of no file: what was not permitted is not known
        RuntimeError("shapes differ"),
    ],
)
def test_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as kept:
        run_main(raising(error))
    assert kept.value is error


def test_an_interruption_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_main(raising(KeyboardInterrupt()))
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(("rank", "waited"), [(None, []), ("0", []), ("1", [5.0]), ("7", [5.0])])
def test_the_main_rank_speaks_first(rank: str | None, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(errors.time, "sleep", slept.append)
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit):
        errors.fail("no")
    assert slept == waited


def test_a_full_disk_in_a_thread_is_left_to_the_main_one(capsys: pytest.CaptureFixture[str]) -> None:
    def in_threads() -> None:
        for error in (OSError(errno.ENOSPC, ""), ValueError("a bug")):
            thread = threading.Thread(target=raising(error))
            thread.start()
            thread.join()

    hook = threading.excepthook
    try:
        run_main(in_threads)
    finally:
        threading.excepthook = hook
    said = capsys.readouterr().err
    assert "a bug" in said and "OSError" not in said


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("sed", ["seed", "steps"], "; did you mean 'seed'?"),
        ("seed", ["train.seed", "root", "reward"], "; did you mean 'train.seed'?"),
        ("method.gama", ["method.gamma", "gamut"], "; did you mean 'method.gamma'?"),
        ("zzz", ["b", "a"], "; known: a, b"),
        (
            "zzz",
            [f"{n:02}" for n in range(20)],
            "; known: " + ", ".join(f"{n:02}" for n in range(12)) + ", ... (20 in all)",
        ),
        ("x", [], ""),
    ],
)
def test_the_nearest_name(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_line_that_can_be_printed(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1 and line.isprintable()
    line.encode("utf-8")
    assert one_line("a\x1b[1m \ud800\x00") == r"a\x1b[1m \ud800\x00"


def test_the_file_of_a_path_object_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error: Any = PermissionError(errno.EACCES, "")
    error.filename = tmp_path  # as pathlib's own errors have it
    with pytest.raises(SystemExit):
        run_main(raising(error))
    assert str(tmp_path) in capsys.readouterr().err
