"""A language model and a reward model of a few thousand weights, in folders and loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from reward_model.model import load_reward_model, new_reward_model, new_reward_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tiny_stage import tiny_base


def make_reward_model(base: Path, folder: Path) -> Path:
    """An untrained reward model with the trunk of `base`, whose head tells tokens apart."""
    torch.manual_seed(1)
    tokenizer = new_reward_tokenizer(base)
    new_reward_model(base, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with what SFT and the reward model leave; to be read only."""
    root = tmp_path_factory.mktemp("doctor")
    base = tiny_base(root / "ckpts" / "sft")
    make_reward_model(base, root / "ckpts" / "reward_model")
    return root


@pytest.fixture
def loaded(finished: Path) -> tuple[Any, Any]:
    """The reward model and its tokenizer."""
    return load_reward_model(finished / "ckpts" / "reward_model")
