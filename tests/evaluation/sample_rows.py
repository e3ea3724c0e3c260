"""Rows of an evaluation's CSVs, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.samples import SampleRow, write_samples
from tasks.run_folder import RunFolder


def row(number: int, reward: float = 0.0, **values: Any) -> SampleRow:
    """A row of post `p<number>`; `values` replace what it would hold."""
    plain: dict[str, Any] = {
        "pred": f"summary {number}",
        "truth": f"reference {number}",
        "post": f"SUBREDDIT: r/pets\nTITLE: Title {number}\nPOST: The body of post {number}.\nTL;DR:",
        "score_pred": reward,
        "score_truth": 0.5,
        "rouge1": 0.1,
        "rouge2": 0.2,
        "rougeL": 0.3,
        "gold_pred": None,
        "gold_truth": None,
        "id": f"p{number}",
        "ended": True,
        "tokens": 5 + number,
        "faults": "",
        "rouge1_stemmed": 0.15,
        "rouge2_stemmed": 0.25,
        "rougeL_stemmed": 0.35,
    }
    return SampleRow(**plain | values)


def write_models(root: Path, **models: list[SampleRow]) -> None:
    """A CSV a model below the root."""
    run = RunFolder.of(root)
    run.metadata.mkdir(parents=True, exist_ok=True)
    for name, rows in models.items():
        write_samples(run.samples(name), rows)
