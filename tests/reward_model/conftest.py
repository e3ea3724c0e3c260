"""The tiny root that the stage's tests train in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_stage import tiny_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny_root(tmp_path / "run")
