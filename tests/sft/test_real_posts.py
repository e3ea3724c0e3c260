"""SFT on the real rows that lie outside the repository, skipped where they are absent."""

import json
from pathlib import Path

import pytest
from tiny_stage import REPO

from sft.train_gptneo_summarize import main

DATA = REPO.parent / "shared" / "data"


@pytest.mark.parametrize("source", ["openai_summarize_fixture/tldr", "reddit_tldr_2013"])
def test_real_rows_train(root: Path, source: str) -> None:
    folder = (DATA / source) if (DATA / source).is_dir() else (DATA / source).parent
    if not folder.is_dir():
        pytest.skip(f"needs ../shared/data/{source}, which is not here")
    main(
        [
            f"--root={root}",
            "--model={root}/base",
            f"--data={DATA / source}",
            "--train_limit=16",
            "--valid_limit=4",
            "--max_length=250",
            "--max_steps=2",
            "--batch_size=4",
            "--rouge_samples=2",
            "--max_new_tokens=8",
            "--precision=fp32",
        ]
    )
    record = json.loads((root / "ckpts" / "sft" / "run.json").read_text())
    assert record["finished"] and record["train_posts"] + record["valid_posts"] + record["posts_left_out"] == 20
