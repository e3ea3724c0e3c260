"""Several reward models as one: their mean, the least of them, or the mean minus λ standard deviations.

A policy finds what one reward model overrates; members trained with other seeds or data overrate other things, and
where they disagree a careful combination pays less. Coste et al. 2024, "Reward Model Ensembles Help Mitigate
Overoptimization" (arXiv 2310.02743): `min` is their worst-case optimisation; `mean_minus_std` is close to their
uncertainty-weighted one, which subtracts λ times the variance. The standard deviation is used here because it has the
unit of the reward, so that λ means the same whatever the models' scale. Eisenstein et al. 2023 (arXiv 2312.09244)
found that ensembles make reward hacking rarer and do not end it.

Scales. A score of one model says nothing beside a score of another: −log σ(a − b) leaves each its own zero and, as a
model grows surer, its own unit. So members are brought together before they are combined: each has its `reward_offset`
taken off (by `RewardScorer`), is multiplied by its factor of `scale_factors`, and, for rewards relative to a reference,
has its own score of that reference taken off (`reward_model.reward`). Left out: weights per member.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from reward_model.reward_options import Combine
from trlx.utils.errors import UserError


class Scorer(Protocol):
    """Whatever scores texts as `RewardScorer` does."""

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[float]:
        """One score per response, in the order given."""
        ...


class EnsembleScorer:
    """Scores prompts with responses by k ≥ 1 reward models; a single one is an ensemble of one.

    Args:
        members: the scorers.
        how: "mean", "min" or "mean_minus_std", of each text's k scores.
        std_weight: λ of "mean_minus_std".
        factors: what each member's scores are multiplied by; None for 1.

    Raises: ValueError without members or with another number of factors.
    """

    def __init__(
        self,
        members: Sequence[Scorer],
        how: Combine = "mean",
        std_weight: float = 1.0,
        factors: Sequence[float] | None = None,
    ):
        if not members:
            raise ValueError("an ensemble needs a member")
        self.members, self.how, self.std_weight = list(members), how, std_weight
        self.factors = [1.0] * len(members) if factors is None else list(factors)
        if len(self.factors) != len(self.members):
            raise ValueError(f"{len(self.factors)} factors for {len(self.members)} members: give as many of each")

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[float]:
        """One combined score per response; arguments as of `RewardScorer.score`."""
        return self.combine(self.member_scores(prompts, responses, ended))

    def member_scores(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[tuple[float, ...]]:
        """The k scores of each response, in the members' common unit."""
        columns = [
            [factor * score for score in member.score(prompts, responses, ended)]
            for member, factor in zip(self.members, self.factors, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def combine(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """One number for the k of each row."""
        return [combined(row, self.how, self.std_weight) for row in rows]


def combined(scores: Sequence[float], how: Combine, std_weight: float = 1.0) -> float:
    """k scores of one text as one number.

    Args:
        scores: k ≥ 1 numbers in one unit.
        how: "mean", "min", or "mean_minus_std" = mean − std_weight · √(mean squared distance from the mean).
    """
    if how == "min":
        return min(scores)
    mean = math.fsum(scores) / len(scores)
    return mean - std_weight * statistics.pstdev(scores) if how == "mean_minus_std" else mean


def scale_factors(stds: Sequence[float | None]) -> list[float]:
    """What to multiply members' scores by so that reference summaries spread equally under all.

    A member's factor is (mean of the k standard deviations) / (its own), so rewards keep the size that one member's
    have. Factors are 1 where some member's spread is unknown: guessing would favour a member unseen.

    Args:
        stds: of each member's scores of reference summaries, in its own unit; None or 0 for unknown.
    """
    known = [std for std in stds if std]
    if len(known) < len(stds):
        return [1.0] * len(stds)
    mean = statistics.fmean(known)
    return [mean / std for std in known]


def reference_std(folder: str | os.PathLike[str]) -> float | None:
    """Spread of a reward model's scores of reference summaries, from the results.json that training left beside it.

    Returns: None where there is no such file or number. Raises: UserError for a file that is not JSON.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        return None
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): remove it, or train the reward model anew") from error
    references = results.get("references") if isinstance(results, dict) else None
    std = references.get("std") if isinstance(references, dict) else None
    return float(std) if isinstance(std, (int, float)) and std > 0 else None
