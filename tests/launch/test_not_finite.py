"""A Trainer stage whose loss is sometimes no number."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from launch.not_finite import SkipNotFinite
from launch.stage_trainer import StageTrainer
from sft.train_gptneo_summarize import main
from trlx.utils.errors import UserError


def train(root: Path, monkeypatch: pytest.MonkeyPatch, broken: set[int], most: int) -> Path:
    """SFT of five steps, some of which, counted from 1, have no loss."""
    make, calls = StageTrainer.__init__, []

    def init(self: StageTrainer, *, loss_fn: Any, **keywords: Any) -> None:
        def spoilt(*given: Any) -> torch.Tensor:
            calls.append(1)
            return loss_fn(*given) * (math.nan if len(calls) in broken else 1)

        make(self, loss_fn=spoilt, **keywords)
        self.remove_callback(SkipNotFinite)
        self.add_callback(SkipNotFinite(keywords["stage"], most))

    out = root / "out"
    settings = ["--max_steps=5", "--batch_size=4", "--max_length=128", "--precision=fp32", "--rouge_samples=0"]
    places = [f"--root={root}", f"--out={out}", f"--model={root}/base", f"--data={root}/data/sft"]
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "__init__", init)
        main([*places, *settings])
    return out


def test_one_bad_step_is_skipped_and_counted(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = train(root, monkeypatch, {2, 4, 5}, most=3)
    assert "[sft] step 2 is skipped: its gradient is not finite" in capsys.readouterr().out
    assert json.loads((out / "run.json").read_text())["skipped_steps"] == 3
    weights = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_too_many_in_a_row_end_the_stage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"not finite at step 4, .* 2 in a row: lower --learning_rate"):
        train(root, monkeypatch, {1, 3, 4}, most=2)
