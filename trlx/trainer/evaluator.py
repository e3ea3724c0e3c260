"""Evaluation during training: continue the evaluation prompts, score them, show a few."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.responder import Responder
from trlx.trainer.scoring import RewardFn, Texts, call_reward_fn, on_main_rank
from trlx.utils.errors import UserError
from trlx.utils.logging import tqdm

SHOWN = 3


class Evaluator:
    """Runs over the evaluation prompts, each rank its share, and scores all of them at once on the main rank.

    Args:
        responder: continues and decodes. pipeline: the prompts.
        reward_fn: gives `reward/mean`; None leaves it out. metric_fn: gives further `metrics/<name>`.
    """

    def __init__(
        self,
        responder: Responder,
        pipeline: PromptPipeline,
        batch_size: int,
        reward_fn: RewardFn | None,
        metric_fn: Callable[..., Mapping[str, Any]] | None,
    ):
        self.responder, self.pipeline, self.batch_size = responder, pipeline, batch_size
        self.accelerator, self.tokenizer = responder.trainer.accelerator, responder.trainer.tokenizer
        self.reward_fn, self.metric_fn = reward_fn, metric_fn

    def run(self, title: str) -> tuple[dict[str, float], pd.DataFrame]:
        """(statistics, samples) of every point of the sweep, the same on every rank. Every rank must call it."""
        statistics: dict[str, float] = {}
        tables = []
        for suffix, point in self.responder.points:
            stats, table = self._run_point(f"{title} {suffix}".rstrip(), point)
            statistics |= {f"{name}{suffix}": value for name, value in stats.items()}
            for place, (name, value) in enumerate(point.items()):
                table.insert(place, name, value)
            tables.append(table)
        return statistics, pd.concat(tables, ignore_index=True)

    def _run_point(self, title: str, point: Mapping[str, Any]) -> tuple[dict[str, float], pd.DataFrame]:
        start = time.perf_counter()
        with self.responder.whole():  # here, since not all ranks have equally many batches
            texts, lengths, ended = self._generate_share(point)
        parts: list[Texts] = gather_object([texts])
        ranks: list[list[int]] = gather_object([lengths])
        ends: list[list[bool]] = gather_object([ended])
        generated = time.perf_counter() - start

        def judge() -> tuple[dict[str, float], pd.DataFrame]:
            table, stats = self._score(Texts.join([part for part in parts if part.outputs]))
            stats["time/generate"] = generated
            stats["eval/response_length"] = float(np.mean([n for rank in ranks for n in rank]))
            stats["eval/eos_rate"] = float(np.mean([end for rank in ends for end in rank]))
            show(table.head(SHOWN), title, stats)
            return stats, table

        return on_main_rank(self.accelerator, judge)

    @torch.no_grad()
    def _generate_share(self, point: Mapping[str, Any]) -> tuple[Texts, list[int], list[bool]]:
        """This rank's prompts, longest first so that a batch wastes little padding."""
        mine = range(self.accelerator.process_index, len(self.pipeline), self.accelerator.num_processes)
        order = sorted(mine, key=lambda i: -len(self.pipeline.token_ids[i]))
        parts, lengths, ended = [Texts([], [], [], {name: [] for name in self.pipeline.metadata_names})], [], []
        bar = tqdm(total=len(order), desc="evaluation", leave=False, disable=not self.accelerator.is_main_process)
        for start in range(0, len(order), self.batch_size):
            batch = self.pipeline.batch(order[start : start + self.batch_size])
            ids, mask = batch.input_ids.to(self.accelerator.device), batch.attention_mask.to(self.accelerator.device)
            made = self.responder.evaluation(ids, mask, point)
            parts.append(self.responder.texts(batch, made))
            lengths += made.response_mask.sum(dim=1).tolist()
            ended += made.ended.tolist()
            bar.update(len(batch.texts))
        bar.close()
        return Texts.join(parts), lengths, ended

    def _score(self, texts: Texts) -> tuple[pd.DataFrame, dict[str, float]]:
        columns: dict[str, Any] = {"prompt": texts.prompts, "output": texts.outputs}
        stats: dict[str, float] = {}
        start = time.perf_counter()
        if self.reward_fn is not None:
            rewards = call_reward_fn(self.reward_fn, self.tokenizer, texts).totals.tolist()
            columns["reward"] = rewards
            stats["reward/mean"], stats["reward/std"] = float(np.mean(rewards)), float(np.std(rewards))
        if self.metric_fn is not None:
            for name, array in call_metric_fn(self.metric_fn, texts).items():
                stats[f"metrics/{name}"] = float(array.mean()) if array.size else float("nan")
                if array.shape == (len(texts.outputs),):
                    columns[name] = array
        stats["time/metric"] = time.perf_counter() - start
        return pd.DataFrame(columns), stats


def call_metric_fn(metric_fn: Callable[..., Any], texts: Texts) -> dict[str, np.ndarray]:
    """{name: float64 array, () of a number or (N,) of a list of them}; N need not be the number of responses.

    Raises: UserError when the metric function returns anything else.
    """
    returned = metric_fn(samples=texts.samples, prompts=texts.prompts, outputs=texts.outputs, **texts.metadata)
    if not isinstance(returned, (Mapping, pd.DataFrame, pd.Series)):
        raise UserError(f"metric_fn must return a dict {{name: list of numbers or number}}, not {_short(returned)}")
    return {name: _as_numbers(name, values) for name, values in returned.items()}


def _as_numbers(name: Any, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values)
        items = array.ravel().tolist()  # float() alone would read "1.5", and numpy None as not-a-number
        if any(isinstance(item, (str, bytes)) for item in items):
            raise TypeError
        return np.array([float(item) for item in items]).reshape(array.shape)
    except (TypeError, ValueError, RuntimeError):
        message = f"metric_fn must give '{name}' a list of numbers or a number, not {_short(values)}"
        raise UserError(message) from None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) < 60 else f"{text[:60]}..."


def best_of_sweep(stats: Mapping[str, float]) -> float | None:
    """The mean reward of an evaluation, the best one of a sweep; a metric called "reward" stands in; else None."""
    for name in ("reward/mean", "metrics/reward"):
        values = [value for key, value in stats.items() if key == name or key.startswith(f"{name}@")]
        if values:
            return max(values)
    return None


def show(table: pd.DataFrame, title: str, stats: Mapping[str, float]) -> None:
    """Print samples and the mean reward to the console."""
    means = ", ".join(
        f"{name} {value:.3f}" for name, value in stats.items() if name.startswith(("reward/m", "metrics/"))
    )
    view = Table(title=f"{title}: {means}" if means else title, show_lines=True)
    for column in table.columns:
        view.add_column(str(column), overflow="fold", ratio=3 if column == "prompt" else 2)
    for row in table.itertuples(index=False):
        view.add_row(*[Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row])
    Console().print(view)
