"""What a trainer does about its held-out score: reads it off each evaluation, keeps its best, warns, stops, goes back.

The rule is `trlx.trainer.monitor`'s. Beside it are written: `checkpoint_dir/best_heldout_checkpoint`, in the form of
`best_checkpoint` and from step 0 on, since the policy that training starts from may be the best there is; and
`monitor.json` in the logging folder, whole after each evaluation. Left out: without `train.heldout_metric` nothing is.

With a sweep over generation options the samples of all its points are pooled here, while the best by reward is that of
the best point: the two then judge by different means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd
from accelerate import Accelerator

from trlx.data.configs import TrainConfig
from trlx.trainer.checkpoint_folder import BEST_HELDOUT_NAME, read_state
from trlx.trainer.checkpointer import Checkpointer
from trlx.trainer.monitor import HeldoutMonitor
from trlx.trainer.scoring import on_main_rank
from trlx.trainer.tracker import Tracker
from trlx.utils import logging
from trlx.utils.errors import UserError, nearest
from trlx.utils.files import write_json

MONITOR_FILE = "monitor.json"
log = logging.get_logger(__name__)


@runtime_checkable
class Sourced(Protocol):
    """A metric_fn that can say where its scores come from, so that those of two judges are never compared."""

    def source_of(self, metric: str) -> str:
        """What tells the judge behind `metrics/<name>` from another, e.g. the digest of its model."""


def require_unseen(metric: str | None) -> None:
    """Raises: UserError where the reward itself is to be watched, which can never part from itself."""
    if metric is not None and metric.removeprefix("metrics/") == "reward":
        raise UserError(f"train.heldout_metric {metric} is the reward itself: name a metric that training never sees")


class HeldoutWatch:
    """Watches `train.heldout_metric`; does nothing where that is null. Every rank must make each call.

    Args:
        train: the loop's settings. accelerator, checkpointer, tracker: the trainer's.

    Raises: UserError where the metric is the reward.
    """

    def __init__(self, train: TrainConfig, accelerator: Accelerator, checkpointer: Checkpointer, tracker: Tracker):
        self.train, self.accelerator = train, accelerator
        self.checkpointer, self.tracker = checkpointer, tracker
        self.monitor = HeldoutMonitor(train.heldout_patience)
        self.folder = Path(train.checkpoint_dir) / BEST_HELDOUT_NAME
        self.source: str | None = None
        require_unseen(train.heldout_metric)

    def judges(self, token_ids: Sequence[Sequence[int]], metric_fn: Any) -> None:
        """Say what the scores are of, before any state is loaded: the evaluation prompts' ids and who judges them."""
        metric = self.train.heldout_metric or ""
        judge = metric_fn.source_of(metric) if isinstance(metric_fn, Sourced) else ""
        told = json.dumps([judge, [list(ids) for ids in token_ids]])
        self.source = hashlib.sha256(told.encode()).hexdigest()

    @property
    def stopped(self) -> bool:
        """Whether training is to end here."""
        return self.train.on_overoptimization == "stop" and self.monitor.flagged_at is not None

    def is_best(self, samples: pd.DataFrame, step: int) -> bool:
        """Take an evaluation in, log and write what it tells; whether it is the best by held-out score so far.

        Args:
            samples: its table, one row a prompt; of a sweep all points together. step: optimizer steps done.

        Raises: UserError when the table lacks the metric or a reward, or they cannot be compared.
        """
        if self.train.heldout_metric is None:
            return False

        def observe() -> dict[str, Any]:
            scores = _column(samples, self.train.heldout_metric or "")
            try:
                self.monitor.observe(step, _column(samples, "reward"), scores)
            except ValueError as error:
                raise UserError(f"train.heldout_metric {self.train.heldout_metric}: {error}: mend metric_fn") from None
            return self.monitor.state_dict()

        self.monitor.load_state_dict(on_main_rank(self.accelerator, observe))
        latest, best = self.monitor.latest, self.monitor.best_by_heldout or {}
        stats = {"heldout/mean": latest["heldout"]["mean"], "heldout/best": best["heldout"]["mean"]}
        self.tracker.log({**stats, "heldout/parted": float(latest["parted"])}, step)
        self._write()
        if self.monitor.newly_parted:
            self._warn(latest, best)
        return latest["best_step"] == step

    def roll_back_if_stopped(self) -> None:
        """Put the weights, optimizer and schedule of the best held-out checkpoint back, where training was stopped.

        Counters, logs and the other checkpoints stay as they are: they tell how training went.
        Raises: UserError when the checkpoint is gone.
        """
        if not self.stopped:
            return
        self.checkpointer.load(self.folder)
        self.monitor.rolled_back = True
        self._write()
        log.warning(f"the model is again that of step {read_state(self.folder)['iter_count']}, from {self.folder}")

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, for a checkpoint."""
        return {"metric": self.train.heldout_metric, "source": self.source, "monitor": self.monitor.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; numbers of another metric, of other prompts or judges are let go of."""
        name = self.train.heldout_metric
        if name is None:
            return
        if state.get("metric") != name:
            log.warning(f"{name} was not watched before: its best counts from here on")
        elif state.get("source") != self.source:
            log.warning(f"{name} was of other evaluation prompts or another judge before: its best counts from here on")
        else:
            self.monitor.load_state_dict(state["monitor"])

    def _write(self) -> None:
        if self.accelerator.is_main_process:
            record = {"metric": self.train.heldout_metric, **self.monitor.record()}
            write_json(self.tracker.folder / MONITOR_FILE, record)

    def _warn(self, latest: Mapping[str, Any], best: Mapping[str, Any]) -> None:
        name, (now, then) = self.train.heldout_metric, (latest, best)
        log.warning(
            f"over-optimisation at step {latest['step']}: {name} fell from {then['heldout']['mean']:.3f} at step "
            f"{best['step']} to {now['heldout']['mean']:.3f} while the reward went from {then['reward']['mean']:.3f} "
            f"to {now['reward']['mean']:.3f}; the best checkpoint by {name} is {self.folder}"
            + ("; training stops" if self.stopped else "")
        )


def _column(samples: pd.DataFrame, metric: str) -> list[float]:
    """The numbers of a metric, one a prompt. Raises: UserError when the table has none."""
    name = metric.removeprefix("metrics/")
    numeric = samples.select_dtypes("number")
    if name not in numeric:
        known = nearest(metric, [f"metrics/{column}" for column in numeric if column != "reward"])
        raise UserError(f"train.heldout_metric needs '{metric}' as a list with one number a prompt{known}")
    return [float(value) for value in numeric[name]]
