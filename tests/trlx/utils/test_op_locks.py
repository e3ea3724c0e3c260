"""What a killed compiler leaves is removed, and what one at work holds is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trlx.utils import op_locks
from trlx.utils.op_locks import IN_USE, remove_stale_locks

SHARES = "from trlx.utils.op_locks import share_operations\nshare_operations()\nprint('ready', flush=True)\ninput()\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deepspeed_shm_comm").mkdir()
    (tmp_path / "deepspeed_shm_comm" / "lock").touch()
    (tmp_path / "deepspeed_shm_comm" / "main.o").touch()
    return tmp_path


def test_a_lock_that_nobody_holds_goes_and_nothing_else(folder: Path) -> None:
    assert remove_stale_locks(folder) == 1
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept == {"deepspeed_shm_comm/main.o", IN_USE}
    assert remove_stale_locks(folder) == 0


def test_a_rank_that_lives_keeps_the_locks_and_one_that_was_killed_does_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    lock = folder / "deepspeed_shm_comm" / "lock"
    with subprocess.Popen([sys.executable, "-c", SHARES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as rank:
        assert rank.stdout is not None and rank.stdout.readline() == b"ready\n"
        assert not lock.exists()  # the first to come clears what was there
        lock.touch()  # it builds
        second = subprocess.run([sys.executable, "-c", SHARES], input=b"\n", timeout=120, check=False)
        assert second.returncode == 0 and lock.exists() and remove_stale_locks(folder) == 0
        rank.kill()
    assert remove_stale_locks(folder) == 1 and not lock.exists()


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert remove_stale_locks(tmp_path / "file") == 0
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file"))
    op_locks.share_operations()
    assert not op_locks._shared
