"""One thread, and what the examples make kept apart from what people made with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # threads that wait for a busy machine cost more than they give


@pytest.fixture(scope="session", autouse=True)
def own_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The examples' `runs` folder, for this session."""
    from examples import sentiments_miniature
    from examples.randomwalks import start

    before = start.RUNS, sentiments_miniature.RUNS
    runs = tmp_path_factory.mktemp("runs")
    start.RUNS = sentiments_miniature.RUNS = runs
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    yield runs
    start.RUNS, sentiments_miniature.RUNS = before
