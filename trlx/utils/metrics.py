"""Where numbers go: one JSON line per logged step, and TensorBoard event files beside it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlx.utils.disk import writing
from trlx.utils.files import write_text

METRICS_FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends `{"step": n, "time": seconds since the epoch, name: value, ...}` lines to `folder/metrics.jsonl`.

    Numbers and lists of numbers are written, anything else is left out; not-a-number and infinities become null, so
    that every line is strict JSON.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / METRICS_FILE

    def write(self, metrics: Mapping[str, Any], step: int) -> None:
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        for name, value in metrics.items():
            if is_scalar(value):
                line[name] = _plain(value)
            elif (numbers := read_distribution(value)) is not None:
                line[name] = [_plain(number) for number in numbers]
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def count(self) -> int:
        """How many lines are there."""
        return len(read_metrics(self.folder))

    def keep(self, count: int) -> None:
        """Drop all but the first `count` lines, which a resumed run writes again."""
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        if len(lines) > count:  # a line that a kill tore counts too
            write_text(self.path, "".join(lines[:count]))


def is_scalar(value: Any) -> bool:
    """Whether a value can be a point of a curve: a number, or a tensor or array of one element."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return math.prod(value.shape) == 1
    return isinstance(value, (int, float, np.number))


def read_distribution(value: Any) -> list[float] | None:
    """The numbers of a non-empty list, tuple, or tensor or array of any shape; None for anything else."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.flatten().tolist()
    if isinstance(value, (list, tuple)) and value and all(is_scalar(item) for item in value):
        return [float(item) for item in value]
    return None


def _plain(value: Any) -> int | float | None:
    value = value.item() if isinstance(value, (torch.Tensor, np.ndarray, np.number)) else value
    return value if not isinstance(value, float) or math.isfinite(value) else None


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of `folder/metrics.jsonl`, oldest first; an unfinished last line is left out."""
    path = Path(folder) / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
