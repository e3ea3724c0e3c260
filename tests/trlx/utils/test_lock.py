"""Two runs in one folder."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.run_folder import REPO
from trlx.utils.errors import UserError
from trlx.utils.lock import holding, let_go, let_go_of_all, lock_path, take

HOLD = "import sys; from trlx.utils.lock import take; take(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that keeps others out of `folder` until its input ends or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_another_process_is_kept_out_until_the_holder_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with holder(folder) as process:
        with pytest.raises(
            UserError, match=rf"run: another run is writing here \(process {process.pid} on "
        ) as refused:
            take(folder)
        assert "\n" not in str(refused.value)
        assert not folder.exists()
        process.kill()
        process.wait()
        assert take(folder)
    let_go(folder)


def test_one_process_takes_a_folder_once(tmp_path: Path) -> None:
    with holding(tmp_path / "a"):
        assert not take(tmp_path / "a")
        with holding(tmp_path / "b" / ".." / "a"):  # the same folder
            pass
        assert not take(tmp_path / "a")
    assert take(tmp_path / "a")
    let_go_of_all()
    with holder(tmp_path / "a") as process:
        process.kill()


def test_a_block_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), holding(tmp_path / "a"):
        raise RuntimeError
    with holder(tmp_path / "a") as process:
        process.kill()


def test_a_disk_of_its_own_is_locked_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written beside a mount point that is ours alone."""
    folder, real = tmp_path / "disk", Path.open
    folder.mkdir()

    def refuse(path: Path, *arguments: Any, **keywords: Any) -> Any:
        if path.parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refuse)
    with holding(folder):
        code = f"import fcntl, os; fcntl.flock(os.open({str(folder)!r}, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "BlockingIOError" in ran.stderr
    number = os.open(folder, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(UserError, match="another run is writing here"):
        take(folder)
    os.close(number)
    assert list(folder.iterdir()) == [] and take(folder)
    let_go(folder)


def test_the_folder_itself_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with holding(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []
    assert lock_path(tmp_path / "run") == tmp_path / ".run.lock"
