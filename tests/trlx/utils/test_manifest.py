"""Whole, torn and altered folders."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trlx.utils.errors import UserError
from trlx.utils.manifest import MANIFEST_FILE, damage, first_whole, require_whole, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = tmp_path / "checkpoint"
    (written / "hf_model").mkdir(parents=True)
    (written / "hf_model" / "config.json").write_text("{}")
    (written / "state").write_bytes(b"abc")
    (written / "empty").touch()
    write_manifest(written)
    return written


def test_every_file_is_listed(folder: Path) -> None:
    listed = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    assert set(listed) == {"hf_model/config.json", "state", "empty"}
    assert listed["state"] == {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}


def test_an_untouched_folder_is_whole(folder: Path) -> None:
    assert damage(folder) is None
    require_whole(folder)
    (folder / "notes").write_text("a person's own")
    assert damage(folder) is None


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: (f / "state").write_bytes(b"abd"), "state is not as it was written"),
        (lambda f: (f / "state").write_bytes(b"ab"), "state has 2 bytes instead of 3"),
        (lambda f: (f / "empty").unlink(), "empty is missing"),
        (lambda f: (f / MANIFEST_FILE).unlink(), "manifest.json cannot be read (No such file or directory)"),
        (lambda f: (f / MANIFEST_FILE).write_text('{"format": 1'), "manifest.json is damaged"),
        (lambda f: (f / MANIFEST_FILE).write_text('{"format": 2, "files": {}}'), "manifest.json is damaged"),
        (lambda f: (f / MANIFEST_FILE).write_text('{"format": 1, "files": {"state": 3}}'), "manifest.json is damaged"),
        (lambda f: (f / MANIFEST_FILE).write_bytes(b"\xff\xfe"), "manifest.json is damaged"),
    ],
)
def test_damage_is_named(folder: Path, harm, said: str) -> None:
    harm(folder)
    assert damage(folder) == said
    with pytest.raises(UserError, match="is no whole checkpoint"):
        require_whole(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert damage(tmp_path / "nowhere") == "manifest.json cannot be read (No such file or directory)"


@given(content=st.binary(min_size=1, max_size=64), where=st.integers(0, 63), bit=st.integers(0, 7))
def test_any_flipped_bit_shows(tmp_path_factory: pytest.TempPathFactory, content: bytes, where: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "file").write_bytes(content)
    write_manifest(folder)
    flipped = bytearray(content)
    flipped[where % len(content)] ^= 1 << bit
    (folder / "file").write_bytes(bytes(flipped))
    assert damage(folder) == "file is not as it was written"


def test_the_first_whole_one(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "torn").mkdir()
    assert first_whole([tmp_path / "torn", folder]) == folder
    assert "torn is no whole checkpoint" in caplog.text
    assert first_whole([]) is None
