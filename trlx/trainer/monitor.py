"""Watching a score that is not trained on: is the reward still worth having?

A policy that pleases its reward function ever more can get worse by any other measure (Gao et al. 2022, "Scaling Laws
for Reward Model Overoptimization", arXiv 2210.10760). Such a measure, held out from training, is watched here at every
evaluation, and the evaluation that was best by it is remembered apart from the one that was best by reward. Left out:
where the scores come from, what is done about it (`trlx.trainer.heldout`), and tests on more than means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over n prompts and its normal interval; low = high = None where n < 2 tells nothing of spread."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float], tests: int = 1) -> Mean:
        """mean ± z · s / √n, s being the standard deviation with n − 1.

        Args:
            values: one number a prompt. tests: among how many such intervals none shall miss with probability `LEVEL`
                (Bonferroni); 1 for a plain 95% interval.
        """
        data = np.asarray(values, dtype=np.float64)
        mean, n = float(data.mean()), len(data)
        if n < 2:
            return cls(mean, None, None, n)
        z = NormalDist().inv_cdf(1 - (1 - LEVEL) / (2 * tests))
        half = z * float(data.std(ddof=1)) / math.sqrt(n)
        return cls(mean, mean - half, mean + half, n)


@dataclass
class HeldoutMonitor:
    """Told of each evaluation; says which was the best by held-out score and whether reward and score have parted.

    Parted means: in this evaluation and the patience − 1 before it, the held-out mean lay below its best so far with
    the whole interval of the paired differences (prompt by prompt, this evaluation minus the best one) below zero,
    while the mean reward was at or above what it was at that best. The conditions and why:

    - Paired: what the prompts differ by among themselves cancels.
    - At or above the reward of the best: when both fall, training is failing, but not by pleasing the reward function.
    - An interval at 1 − 5%/k, k being the number of earlier evaluations. The best is the luckiest of k noisy means, so
      any later one looks worse than it. At 95% each, with patience 2 and nothing happening but sampling noise, 31% of
      runs of 20 evaluations and 95% of runs of 100 were flagged in simulation; at 1 − 5%/k it was 5% and 10%.
    - In a row, `patience` times: one evaluation may be a bad draw, and policies wobble from step to step.

    Those rates are of the hardest healthy run, whose held-out score stands still while the reward climbs on. Where the
    score rises and flattens out, 1% or less were flagged. The test of this module simulates both. The price is the
    smallest fall that is seen: with 100 prompts and ten evaluations about .4 standard deviations of the score.

    Args:
        patience: evaluations in a row, at least 1.
    """

    patience: int = 2

    def __post_init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.flagged_at: int | None = None  # the first step at which reward and score had parted
        self.rolled_back = False
        self._best_scores: list[float] = []  # by prompt, of the evaluation that is best by held-out score

    def observe(self, step: int, rewards: Sequence[float], scores: Sequence[float]) -> None:
        """Take an evaluation in.

        Args:
            step: optimizer steps done, more than at the last evaluation.
            rewards, scores: one number a prompt, the same prompts in the same order each time.

        Raises: ValueError for numbers that are not finite, or for another number of prompts than before.
        """
        if not np.isfinite(scores).all():
            raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} held-out scores are not finite")
        if self._best_scores and len(scores) != len(self._best_scores):
            raise ValueError(f"{len(scores)} held-out scores, and {len(self._best_scores)} in the best evaluation")
        entry: dict[str, Any] = {"step": step, "reward": asdict(Mean.of(rewards)), "heldout": asdict(Mean.of(scores))}
        best = self.best_by_heldout
        if best is None or entry["heldout"]["mean"] > best["heldout"]["mean"]:
            self._best_scores = [float(score) for score in scores]
            entry |= {"best_step": step, "difference": None, "streak": 0, "parted": False}
            self.history.append(entry)
            return
        fall = Mean.of(np.subtract(scores, self._best_scores).tolist(), tests=len(self.history))
        below = fall.high is not None and fall.high < 0 and entry["reward"]["mean"] >= best["reward"]["mean"]
        streak = self.history[-1]["streak"] + 1 if below else 0
        parted = streak >= self.patience
        entry |= {"best_step": best["step"], "difference": asdict(fall), "streak": streak, "parted": parted}
        self.history.append(entry)
        if parted and self.flagged_at is None:
            self.flagged_at = step

    @property
    def latest(self) -> dict[str, Any]:
        """The newest entry of the history; only after `observe`."""
        return self.history[-1]

    @property
    def best_by_heldout(self) -> dict[str, Any] | None:
        """The entry of the highest held-out mean, the earliest of equals; None before the first evaluation."""
        return max(self.history, key=lambda entry: entry["heldout"]["mean"], default=None)

    @property
    def best_by_reward(self) -> dict[str, Any] | None:
        """The entry of the highest mean reward after step 0, whose policy is never kept as the best by reward."""
        trained = [entry for entry in self.history if entry["step"] > 0]
        return max(trained, key=lambda entry: entry["reward"]["mean"], default=None)

    @property
    def newly_parted(self) -> bool:
        """Whether the newest evaluation is the one that was flagged."""
        return bool(self.history) and self.flagged_at == self.latest["step"]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able, for a checkpoint."""
        return {
            "history": self.history,
            "flagged_at": self.flagged_at,
            "rolled_back": self.rolled_back,
            "best_scores": self._best_scores,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.history, self.flagged_at = list(state["history"]), state["flagged_at"]
        self.rolled_back, self._best_scores = state["rolled_back"], list(state["best_scores"])

    def record(self) -> dict[str, Any]:
        """What people and the report read: the flag, both bests, the history."""
        return {
            "format": 1,
            "patience": self.patience,
            "flagged_at": self.flagged_at,
            "best_by_reward": _point(self.best_by_reward),
            "best_by_heldout": _point(self.best_by_heldout),
            "history": self.history,
            "rolled_back": self.rolled_back,
        }


def _point(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Step and means of an entry."""
    if entry is None:
        return None
    return {"step": entry["step"], "reward": entry["reward"]["mean"], "heldout": entry["heldout"]["mean"]}
