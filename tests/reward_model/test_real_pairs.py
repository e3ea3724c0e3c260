"""The reward model on real human comparisons that lie outside the repository, skipped where they are absent."""

import json
from pathlib import Path

import pytest
from tiny_stage import REPO

from reward_model.train_reward_model_gptneo import main

FOLDER = REPO.parent / "shared" / "data" / "openai_summarize_fixture"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ../shared/data/openai_summarize_fixture, which is not here")
def test_human_comparisons_train(root: Path) -> None:
    main(
        [
            f"--root={root}",
            "--model={root}/base",
            f"--data={FOLDER}/comparisons",
            f"--references={FOLDER}/tldr",
            "--references_limit=8",
            "--train_limit=16",
            "--valid_limit=8",
            "--test_limit=8",
            "--max_length=250",
            "--max_steps=2",
            "--precision=fp32",
        ]
    )
    results = json.loads((root / "ckpts" / "reward_model" / "results.json").read_text())
    counts = results["pairs"]["train"]
    assert counts["kept"] + counts["identical"] + counts["short"] == counts["total"] == 16
    assert results["references"]["number"] == 8 and "accuracy_noise_free" not in results["test"]
