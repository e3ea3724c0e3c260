"""ROUGE-1/2/L F1 of every sample, through `evaluate` and the local metric in `evaluation/rouge`.

With and without the Porter stemmer, since papers differ in which they give and seldom say. No aggregator: every sample
keeps its own value, which the paired intervals need. Nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluate

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")
USE_STEMMER = False  # of what is called ROUGE without more words
USE_AGGREGATOR = False
METRIC_FOLDER = Path(__file__).resolve().parent / "rouge"


@dataclass(frozen=True)
class RougeScores:
    """ROUGE of n samples by name (`ROUGE_TYPES`), F1 in [0, 1]: on words as they are, and on their stems."""

    plain: dict[str, list[float]]
    stemmed: dict[str, list[float]]

    def columns(self) -> dict[str, list[float]]:
        """Both under the names of the CSV's columns: rouge1, ..., rouge1_stemmed, ..."""
        return {**self.plain, **{f"{name}_stemmed": values for name, values in self.stemmed.items()}}


@functools.cache
def _metric() -> Any:
    return evaluate.load(str(METRIC_FOLDER), keep_in_memory=True)


def rouge_f1(
    predictions: Sequence[str], references: Sequence[str], use_stemmer: bool = USE_STEMMER
) -> dict[str, list[float]]:
    """Per-sample F1 in [0, 1].

    Args:
        predictions, references: n summaries each, clean text. An empty prediction scores 0.
        use_stemmer: compare English words by their stems (Porter), words of more than three letters only.

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
        use_stemmer=use_stemmer,
        use_aggregator=USE_AGGREGATOR,
    )


def rouge_both(predictions: Sequence[str], references: Sequence[str]) -> RougeScores:
    """`rouge_f1` with and without stemming. Raises: as it."""
    return RougeScores(rouge_f1(predictions, references, False), rouge_f1(predictions, references, True))


def rouge_average(scores: dict[str, list[float]]) -> list[float]:
    """Per sample, the mean of ROUGE-1, -2 and -L: the "Average" column."""
    return [sum(row) / len(row) for row in zip(*(scores[name] for name in ROUGE_TYPES), strict=True)]
