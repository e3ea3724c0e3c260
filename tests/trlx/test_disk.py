"""Room and permission on the disk: refused before the work, and named when they end in the middle of it."""

import ctypes
import errno
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trlx.utils.disk import (
    disk_trouble,
    gigabytes,
    nearest_folder,
    require_disk,
    require_writable,
    size_of,
    writing,
)
from trlx.utils.errors import UserError

FULL = Path("/dev/full")  # every write to it fails as on a full disk
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def test_the_nearest_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert nearest_folder(tmp_path) == tmp_path
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(tmp_path / "file" / "b") == tmp_path


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Without root's right to write everywhere, for this thread and until the test ends."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the system call's third version, this thread
    kept = (ctypes.c_uint32 * 6)()
    libc.capget(header, kept)
    none = (ctypes.c_uint32 * 6)(0, *kept[1:3], 0, *kept[4:])  # effective rights go, permitted ones stay
    assert libc.capset(header, none) == 0
    yield
    assert libc.capset(header, kept) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="rights are taken away as Linux has them")
def test_a_folder_that_cannot_be_written(tmp_path: Path, unprivileged: None) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    require_writable(closed / "deeper", "--out")
    assert list(closed.iterdir()) == []
    closed.chmod(0o555)
    with pytest.raises(UserError, match=rf"{closed}: cannot write here \(Permission denied\): choose another --out"):
        require_writable(closed / "deeper", "--out")


Usage = namedtuple("Usage", "total used free")


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(folder: Path) -> Usage:
        asked.append(folder)
        return Usage(10**12, 0, 5 * 10**9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    require_disk(tmp_path / "new", 5 * 10**9, "one model", "go away")
    with pytest.raises(UserError) as refused:
        require_disk(tmp_path / "new", 5 * 10**9 + 1, "one model", "go away")
    assert str(refused.value) == (
        f"{tmp_path}: one model will take about 5.0 GB, and 5.0 GB are free: free some space there, or go away"
    )
    assert asked == [tmp_path, tmp_path]


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"12")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "y")
    assert size_of(tmp_path) == 5 and size_of(tmp_path / "a", tmp_path / "y") == 5
    assert size_of() == 0 and size_of(tmp_path / "none") == 0
    assert (gigabytes(12_345_678_901), gigabytes(1_234_567)) == ("12.3 GB", "1.2 MB")


@needs_full
def test_writing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as plain, FULL.open("w") as file:
        file.write("x")
        file.flush()
    assert plain.value.filename is None
    with pytest.raises(OSError, match="No space left") as named, writing(tmp_path / "log"), FULL.open("w") as file:
        file.write("x")
        file.flush()
    assert named.value.filename == str(tmp_path / "log") and named.value.errno == errno.ENOSPC
    assert disk_trouble(named.value) == (
        f"{tmp_path / 'log'}: No space left on device: free some space there, or write elsewhere (--root, --out)"
    )


@needs_full
def test_torch_loses_the_error_number_and_writing_finds_it(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").symlink_to(FULL)
    with pytest.raises(OSError) as named, writing(tmp_path / "checkpoint"):
        torch.save({"a": torch.zeros(100_000)}, tmp_path / "weights.pt")
    assert named.value.errno == errno.ENOSPC and named.value.filename == str(tmp_path / "checkpoint")


@pytest.mark.skipif(sys.platform != "linux", reason="rights are taken away as Linux has them")
def test_errors_of_safetensors_and_torch_are_known(tmp_path: Path, unprivileged: None) -> None:
    tmp_path.chmod(0o555)
    for write in (
        lambda: save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors"),
        lambda: torch.save(torch.zeros(3), tmp_path / "a.pt"),
        lambda: (tmp_path / "a").mkdir(),
    ):
        with pytest.raises(OSError) as named, writing(tmp_path):
            write()
        assert named.value.errno == errno.EACCES
    tmp_path.chmod(0o755)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    for error in (RuntimeError("No space left on device"), ValueError("x"), FileNotFoundError(errno.ENOENT, "", "x")):
        with pytest.raises(type(error)) as kept, writing(tmp_path):
            raise error
        assert kept.value is error and disk_trouble(error) is None
    already = PermissionError(errno.EACCES, "", "the/file")
    with pytest.raises(PermissionError) as same, writing(tmp_path):
        raise already
    assert same.value is already


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"/file is a file where a folder is needed: choose another --out$"):
        require_writable(tmp_path / "file" / below, "--out")
    assert (tmp_path / "file").read_text() == "mine"
