"""A run's root in which every stage seems to have run, made once, and the scripts to run in it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import scripts as scripts
from tiny_stage import posts, tiny_reward_model, tiny_root, write_rows


@pytest.fixture(scope="session")
def whole_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every stage, of random weights, and data; nobody writes into it."""
    root = tiny_root(tmp_path_factory.mktemp("whole") / "run")
    write_rows(root / "data" / "sft_test.jsonl", posts(6, 7))
    for parts in (("sft",), ("best_checkpoint", "hf_model")):
        shutil.copytree(root / "base", root.joinpath("ckpts", *parts))
    tiny_reward_model(root / "base", root / "ckpts" / "reward_model")
    return root


@pytest.fixture
def root(whole_root: Path, tmp_path: Path) -> Path:
    """A copy of the whole root for one test to spoil."""
    return shutil.copytree(whole_root, tmp_path / "run")
