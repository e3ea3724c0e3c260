"""How often the reward model agrees with people on held-out pairs: overall, and group by group where the data name
groups (batch of labelling, the annotator's confidence, the annotator).

Left out: calibration and stress tests, which judge a model rather than describe it (`reward_model.gate`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from reward_model.pairs import PairText, noise_free_label
from trlx.utils.files import write_text
from trlx.utils.spreadsheet import csv_text

# Columns that OpenAI's comparisons carry and by which their paper reports agreement.
GROUPS = ("batch", "confidence", "worker")
# Of the CSV; a column of the data with such a name is called data_NAME there.
OWN_COLUMNS = ("id", "score_chosen", "score_rejected", "right", "prompt", "chosen", "rejected")


class NamedPair(PairText, Protocol):
    """A pair with the id it has in the data."""

    @property
    def id(self) -> str: ...


def agreement(chosen: Sequence[float], rejected: Sequence[float]) -> list[float]:
    """1 where the chosen side scores higher, 0 where the rejected one does, 0.5 for a tie."""
    return [0.5 if c == r else float(c > r) for c, r in zip(chosen, rejected, strict=True)]


def accuracies(pairs: Sequence[PairText], right: Sequence[float]) -> dict[str, Any]:
    """What `results.json` says of the test pairs.

    Args:
        pairs: the test pairs.
        right: `agreement` on each of them.

    Returns: `accuracy` with its interval; `accuracy_noise_free` with its own, where noise-free labels are known; and
        `by`, for each of `GROUPS` that the data have: group → pairs, accuracy and interval.
    """
    truth = map(noise_free_label, pairs)
    known = [(hit, prefers) for hit, prefers in zip(right, truth, strict=True) if prefers is not None]
    noise_free = [hit if prefers_chosen else 1 - hit for hit, prefers_chosen in known]
    result: dict[str, Any] = {"pairs": len(pairs), **_proportion("accuracy", right)}
    result |= _proportion("accuracy_noise_free", noise_free) if noise_free else {}
    by = {group: accuracy_by(pairs, right, group) for group in GROUPS}
    return result | {"by": {group: table for group, table in by.items() if table}}


def accuracy_by(pairs: Sequence[PairText], right: Sequence[float], column: str) -> dict[str, dict[str, Any]]:
    """Value of a column → its pairs, their accuracy and interval, in the order of the values; pairs without it do not
    count."""
    groups = right_by(pairs, right, column)
    return {value: {"pairs": len(hits), **_proportion("accuracy", hits)} for value, hits in groups.items()}


def right_by(pairs: Sequence[PairText], right: Sequence[float], column: str) -> dict[str, list[float]]:
    """Value of a column → which of its pairs are right, in the order of the values."""
    groups: dict[Any, list[float]] = defaultdict(list)
    for pair, hit in zip(pairs, right, strict=True):
        if isinstance(pair.extra.get(column), str | int | float):
            groups[pair.extra[column]].append(hit)
    ordered = sorted(groups, key=lambda value: (isinstance(value, str), value))
    return {str(value): groups[value] for value in ordered}


def _proportion(name: str, hits: Sequence[float]) -> dict[str, Any]:
    return {name: statistics.fmean(hits), f"{name}_interval_95": proportion_interval(sum(hits), len(hits))}


def proportion_interval(hits: float, count: int) -> list[float]:
    """Wilson's 95% interval of hits / count. Not `evaluation.statistics.proportion`: a tie is half a hit here."""
    from statsmodels.stats.proportion import proportion_confint

    return [float(end) for end in proportion_confint(hits, count, alpha=0.05, method="wilson")]


def write_scored_pairs(
    path: Path, pairs: Sequence[NamedPair], chosen: Sequence[float], rejected: Sequence[float]
) -> None:
    """A CSV of every test pair: its id, both scores, whether they agree with the label, every plain column that the
    data have besides (batch, confidence, worker, ...), and the texts; safe to open in a spreadsheet."""
    plain = [{k: v for k, v in pair.extra.items() if isinstance(v, str | int | float | bool)} for pair in pairs]
    rows: list[dict[str, Any]] = [
        {"id": pair.id, "score_chosen": c, "score_rejected": r, "right": hit}
        | {f"data_{name}" if name in OWN_COLUMNS else name: value for name, value in extra.items()}
        | {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair, c, r, hit, extra in zip(pairs, chosen, rejected, agreement(chosen, rejected), plain, strict=True)
    ]
    write_text(path, csv_text(rows))
