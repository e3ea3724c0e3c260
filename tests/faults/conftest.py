"""The fork server that runs the scripts, and a root in which every stage can begin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bad_input"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import Scripts
from tiny_stage import tiny_root

from reward_model.model import new_reward_model, new_reward_tokenizer


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripts]:
    running = Scripts(tmp_path_factory.mktemp("scripts"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an SFT model and a reward model of random weights; nobody writes into it."""
    root = tiny_root(tmp_path_factory.mktemp("before") / "run")
    (root / "ckpts").mkdir()
    (root / "base").rename(root / "ckpts" / "sft")
    tokenizer = new_reward_tokenizer(root / "ckpts" / "sft")
    new_reward_model(root / "ckpts" / "sft", tokenizer).save_pretrained(root / "ckpts" / "reward_model")
    tokenizer.save_pretrained(root / "ckpts" / "reward_model")
    return root
