"""ROUGE-1/2/L F1 of every sample, through `evaluate` and the local metric in `evaluation/rouge`.

No stemmer, no aggregator: every sample keeps its own value, which the paired intervals need. Nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")
USE_STEMMER = False
USE_AGGREGATOR = False
METRIC_FOLDER = Path(__file__).resolve().parent / "rouge"


@functools.cache
def _metric() -> Any:
    return evaluate.load(str(METRIC_FOLDER), keep_in_memory=True)


def rouge_f1(predictions: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """Per-sample F1 in [0, 1].

    Args:
        predictions, references: n summaries each, clean text. An empty prediction scores 0.

    Returns: {"rouge1": n values, "rouge2": n values, "rougeL": n values}.
    Raises: ValueError when the lengths differ.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    if not predictions:
        return {name: [] for name in ROUGE_TYPES}
    return _metric().compute(
        predictions=list(predictions),
        references=list(references),
        rouge_types=ROUGE_TYPES,
        use_stemmer=USE_STEMMER,
        use_aggregator=USE_AGGREGATOR,
    )


def rouge_average(scores: dict[str, list[float]]) -> list[float]:
    """Per sample, the mean of ROUGE-1, -2 and -L: the "Average" column."""
    return [sum(row) / len(row) for row in zip(*(scores[name] for name in ROUGE_TYPES), strict=True)]
