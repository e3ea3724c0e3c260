"""Settings of the engine's tests, and what they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tiny_engine import byte_tokenizer
from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)  # threads that wait for a busy machine cost more than they give
settings.register_profile("engine", deadline=None, max_examples=50)
settings.load_profile("engine")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(folder)
    return str(folder)


@pytest.fixture
def tokenizer(tokenizer_folder: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
