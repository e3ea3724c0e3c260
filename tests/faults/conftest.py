"""The fork server that runs the scripts, and a root in which every stage can begin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bad_input"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import scripts as scripts
from tiny_stage import tiny_reward_model, tiny_root


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an SFT model and a reward model of random weights; nobody writes into it."""
    root = tiny_root(tmp_path_factory.mktemp("before") / "run")
    (root / "ckpts").mkdir()
    (root / "base").rename(root / "ckpts" / "sft")
    tiny_reward_model(root / "ckpts" / "sft", root / "ckpts" / "reward_model")
    return root
