"""What a metric function may return, and what it is told when it returns anything else."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import PROMPTS, make_trainer

from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.evaluator import call_metric_fn
from trlx.trainer.scoring import Texts
from trlx.utils.errors import UserError

TEXTS = Texts(["a", "b"], ["c", "d"], ["ac", "bd"], {"tag": [1, 2]})


@pytest.mark.parametrize(
    ("returned", "kind"),
    [(None, "None"), ([1.0, 2.0], r"\[1.0, 2.0\]"), (1.0, "1.0"), ("words", "'words'")],
)
def test_no_mapping(returned: Any, kind: str) -> None:
    with pytest.raises(UserError, match=rf"^metric_fn must return a dict .*, not {kind}$"):
        call_metric_fn(lambda **_: returned, TEXTS)


@pytest.mark.parametrize(
    "values",
    [
        None,
        "1.5",
        ["1.5", "2"],
        [1.0, None],
        [[1.0], [2.0, 3.0]],
        {"a": 1.0},
        {1.0, 2.0},
        1j,
        np.array([["x"] * 40] * 9),
    ],
)
def test_no_numbers(values: Any) -> None:
    with pytest.raises(UserError, match=r"^metric_fn must give 'words' a list of numbers or a number, not ") as raised:
        call_metric_fn(lambda **_: {"fine": 1.0, "words": values}, TEXTS)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 160


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.0],
        (1, 2),
        np.array([1, 2]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([1.0, 2.0], requires_grad=True),
        [torch.tensor(1.0), torch.tensor(2.0)],
        pd.Series([1, 2], index=[7, 8]),
        range(1, 3),
    ],
)
def test_numbers(values: Any) -> None:
    def metric_fn(samples: Any, prompts: Any, outputs: Any, tag: Any) -> Any:
        assert (prompts, outputs, samples, tag) == (["a", "b"], ["c", "d"], ["ac", "bd"], [1, 2])
        return {"m": values, "flag": [True, False, True], "one": torch.tensor(3)}

    metrics = call_metric_fn(metric_fn, TEXTS)
    assert metrics["m"].tolist() == [1.0, 2.0] and metrics["m"].dtype == float
    assert metrics["flag"].tolist() == [1.0, 0.0, 1.0]  # any length
    assert metrics["one"].shape == () and metrics["one"] == 3.0


def test_a_table_is_a_mapping_too() -> None:
    assert call_metric_fn(lambda **_: pd.DataFrame({"m": [1, 2]}), TEXTS)["m"].tolist() == [1.0, 2.0]


def test_an_evaluation(tmp_path: Path, tokenizer_folder: str) -> None:
    returned: dict[str, Any] = {"three": [1.0, 2.0, 6.0], "none": []}
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder), metric_fn=lambda **_: returned)
    trainer.add_eval_pipeline(PromptPipeline(PROMPTS[:4], 24, trainer.tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        stats = trainer.evaluate()
    assert stats["metrics/three"] == 3.0 and math.isnan(stats["metrics/none"])
    returned["three"] = ["a", "b"]
    with pytest.raises(UserError, match="metric_fn must give 'three'"):
        trainer.evaluate()
