"""Where a run's numbers and samples go: metrics.jsonl always, TensorBoard or Weights & Biases besides."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from trlx.utils.errors import UserError
from trlx.utils.files import write_text
from trlx.utils.metrics import MetricsWriter, is_scalar, read_distribution
from trlx.utils.spreadsheet import neutralise


class _Sink(Protocol):
    def scalars(self, values: Mapping[str, float], step: int) -> None: ...
    def distributions(self, values: Mapping[str, list[float]], step: int) -> None: ...
    def table(self, name: str, table: pd.DataFrame, step: int) -> None: ...
    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def distributions(self, values: Mapping[str, list[float]], step: int) -> None:
        for name, numbers in values.items():
            self.writer.add_histogram(name, np.asarray(numbers), step)

    def table(self, name: str, table: pd.DataFrame, step: int) -> None:
        self.writer.add_text(name, _markdown(table.head(8)), step)

    def close(self) -> None:
        self.writer.close()


class _WandB:
    def __init__(self, options: Mapping[str, Any]):
        import wandb

        self.wandb = wandb
        self.run: Any = wandb.init(**options)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def distributions(self, values: Mapping[str, list[float]], step: int) -> None:
        self.run.log({name: self.wandb.Histogram(numbers) for name, numbers in values.items()}, step=step)

    def table(self, name: str, table: pd.DataFrame, step: int) -> None:
        self.run.log({name: self.wandb.Table(dataframe=table)}, step=step)

    def close(self) -> None:
        self.run.finish()


class Tracker:
    """Writes on the main rank only; on the others every call does nothing.

    Args:
        folder: for metrics.jsonl, event files and evaluation tables (`eval/step_N.csv`).
        kind: "tensorboard", "wandb" or None. Without wandb installed there is one warning; the files are still written.
            With the environment variable `debug` set, wandb is left alone.
        active: False on every rank but the main one.
        options: for wandb.init.

    Raises: UserError for another kind, or for "tensorboard" without its package.
    """

    def __init__(self, folder: str | Path, kind: str | None, active: bool, options: Mapping[str, Any]):
        self.folder, self.active = Path(folder), active
        self.sinks: list[_Sink] = []
        if kind not in ("tensorboard", "wandb", None):
            raise UserError(f"train.tracker must be tensorboard, wandb or null, not '{kind}'")
        if not active:
            return
        self.metrics = MetricsWriter(self.folder)
        if kind == "tensorboard":
            self.sinks.append(_tensorboard(self.folder))
        if kind == "wandb" and not os.environ.get("debug"):  # noqa: SIM112 (trlX's name)
            try:
                self.sinks.append(_WandB(options))
            except ImportError:
                warnings.warn(f"wandb is not installed: metrics go to {self.metrics.path} only", stacklevel=2)

    def position(self) -> int:
        """Lines of metrics.jsonl so far, for a checkpoint to remember; 0 where nothing is written."""
        return self.metrics.count() if self.active else 0

    def rewind(self, position: int) -> None:
        """Forget the lines after a checkpoint's position: a resumed run writes them again."""
        if self.active:
            self.metrics.keep(position)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers of one step, and lists of numbers as distributions; anything else is left out.

        Not-a-number and infinities stay out of distributions, which no histogram can show.
        """
        if not self.active:
            return
        self.metrics.write(values, step)
        scalars = {name: float(value) for name, value in values.items() if is_scalar(value)}
        lists = {name: read_distribution(value) for name, value in values.items() if name not in scalars}
        finite = {name: [n for n in numbers if math.isfinite(n)] for name, numbers in lists.items() if numbers}
        shown = {name: numbers for name, numbers in finite.items() if numbers}
        for sink in self.sinks:
            sink.scalars(scalars, step)
            if shown:
                sink.distributions(shown, step)

    def log_table(self, name: str, table: pd.DataFrame, step: int) -> None:
        """A table of samples, also kept whole as `folder/eval/step_N.csv`."""
        if self.active:
            safe = table.map(lambda cell: neutralise(cell) if isinstance(cell, str) else cell)
            write_text(self.folder / "eval" / f"step_{step:06d}.csv", safe.to_csv(index=False))
            for sink in self.sinks:
                sink.table(name, table, step)

    def close(self) -> None:
        """Flush what is pending."""
        for sink in self.sinks:
            sink.close()


def _tensorboard(folder: Path) -> _TensorBoard:
    try:
        return _TensorBoard(folder)
    except ImportError as error:
        raise UserError("train.tracker tensorboard needs the package tensorboard: pip install tensorboard") from error


def _markdown(table: pd.DataFrame) -> str:
    def cells(row: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"

    lines = [cells(table.columns), "|" + "---|" * len(table.columns)]
    return "\n".join(lines + [cells(row) for row in table.itertuples(index=False)])
