"""From samples to the points of the frontier: KL, scores, and the curves through them; what `frontier.json` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.best_of_n import choice_weights, kl_bound, measured_ns
from evaluation.frontier_policies import Policy
from evaluation.gao import Fit, Kind, Refusal, fit
from evaluation.statistics import Interval, mean_intervals
from evaluation.table import Table, label, number

Array = NDArray[np.float64]
FORMAT = 1
FITTED = ("reward", "second_reward", "gold")
OPTIONAL = ("second_reward", "gold")
MEASURES = ("reward", *OPTIONAL, "rouge1", "rouge2", "rougeL", "rouge_average", "response_tokens")
BOUND, ESTIMATED = "analytic upper bound", "estimated"
_OF_PPO = ("ppo", "ppo_checkpoint", "ppo_heldout")


@dataclass(frozen=True)
class Point:
    """One policy: one number a post of everything, (P,) each.

    Args:
        kl: nats to the SFT model: Σ k1, or for best-of-n its bound on every post. k3: Σ k3, where it was estimated.
        columns: the scores by name, see `MEASURES`.
        about: further facts for the file.
    """

    name: str
    kind: str
    n: int | None
    step: int | None
    kl: Array
    k3: Array | None
    columns: Mapping[str, Array]
    content: str
    about: Mapping[str, Any]

    def to_json(self, resamples: int) -> dict[str, Any]:
        """Means with their intervals."""
        columns = {name: values.tolist() for name, values in self.columns.items()} | {"kl": self.kl.tolist()}
        if self.k3 is not None:
            columns["k3"] = self.k3.tolist()
        found = {name: asdict(value) for name, value in mean_intervals(columns, resamples=resamples).items()}
        return {
            "name": self.name,
            "kind": self.kind,
            "n": self.n,
            "step": self.step,
            "kl": found["kl"],
            "kl_kind": BOUND if self.n is not None else ESTIMATED,
            "kl_k3": found.get("k3"),
            **{name: found.get(name) for name in MEASURES},
            **self.about,
        }


def policy_point(policy: Policy, kl: Array, k3: Array, scores: Mapping[str, Array], about: Mapping[str, Any]) -> Point:
    """The point of a sampled policy; `scores` are (P, samples a post)."""
    means = {name: values.mean(axis=1) for name, values in scores.items()}
    return Point(policy.name, policy.kind, None, policy.step, kl, k3, means, policy.content, about)


def best_of_n_points(policy: Policy, scores: Mapping[str, Array], about: Mapping[str, Any]) -> list[Point]:
    """SFT itself (n = 1) and best-of-n of it by the reward; `scores` are (P, N)."""
    posts, samples = scores["reward"].shape
    points = []
    for n in measured_ns(samples):
        weights = choice_weights(scores["reward"], n)
        means = {name: (weights * values).sum(axis=1) for name, values in scores.items()}
        name, kind = (policy.name, "sft") if n == 1 else (f"best of {n}", "best_of_n")
        points.append(Point(name, kind, n, None, np.full(posts, kl_bound(n)), None, means, policy.content, about))
    return points


def fit_all(points: Sequence[Point], resamples: int) -> list[Fit | Refusal]:
    """Both curves for every measure there is: RL through PPO's points, weights that occur twice once."""
    baseline = next(point for point in points if point.kind == "sft")
    distinct = {point.content: point for point in points if point.kind in _OF_PPO}
    chosen: dict[Kind, list[Point]] = {
        "best_of_n": [point for point in points if point.kind == "best_of_n"],
        "rl": list(distinct.values()),
    }
    measures = [name for name in FITTED if name in baseline.columns]
    return [_fit(kind, name, of_kind, baseline, resamples) for kind, of_kind in chosen.items() for name in measures]


def _fit(kind: Kind, measure: str, points: Sequence[Point], baseline: Point, resamples: int) -> Fit | Refusal:
    posts = len(baseline.kl)
    kl = np.array([point.kl for point in points]).reshape(len(points), posts)
    values = np.array([point.columns[measure] for point in points]).reshape(len(points), posts)
    return fit(kind, measure, kl, values - baseline.columns[measure], resamples)


def point_table(points: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Every policy, best-of-n at powers of two; from the points as they are in the file."""
    shown = [point for point in points if point["n"] is None or point["n"] & (point["n"] - 1) == 0]
    names = {"second_reward": "Second reward", "gold": "Gold"}
    present = [name for name in OPTIONAL if any(point[name] for point in shown)]
    header = ["Policy", "KL to SFT", "Reward", *(names[name] for name in present), "Rouge average", "Tokens"]

    def row(point: Mapping[str, Any]) -> list[str]:
        bound = "≤ " if point["kind"] == "best_of_n" else ""
        kl = f"{point['kl']['mean']:.2f}" if point["n"] is not None else number(Interval(**point["kl"]), 2)
        scores = [number(_interval(point[name]), 3) for name in ("reward", *present, "rouge_average")]
        return [_label(point), bound + kl, *scores, number(_interval(point["response_tokens"]), 1)]

    return Table("KL against reward", header, [row(point) for point in shown], caption)


def fit_table(fits: Sequence[Fit | Refusal], conditions: str) -> Table:
    """α, β and the peak of every fitted curve, or why there is none; the caption names the `conditions`."""

    def row(one: Fit | Refusal) -> list[str]:
        name = "RL" if one.kind == "rl" else "best of n"
        if isinstance(one, Refusal):
            return [name, one.measure, "–", "–", one.why]
        if one.peak is None:
            top = "none" if one.alpha.mean > 0 else "none: the curve only falls"
        else:
            top = f"{_open_number(one.peak.kl)}, {one.peak.gain:+.2f}" + (
                "" if one.peak.measured else " (extrapolated)"
            )
        return [name, one.measure, number(one.alpha), number(one.beta), top]

    caption = (
        f"Gain over SFT at d = √KL, mean over {conditions} (Gao et al. 2022): d(α − β·d) for best of n, "
        "d(α − β·log d) for RL; least squares. Peak: KL in nats, gain there. Brackets: 95% bootstrap interval over "
        "posts."
    )
    return Table(
        "Curves of over-optimisation", ["Curve", "Score", "α", "β", "Peak"], [row(one) for one in fits], caption
    )


def _label(point: Mapping[str, Any]) -> str:
    return f"PPO step {point['step']}" if point["kind"] == "ppo_checkpoint" else label(point["name"])


def _open_number(value: Interval) -> str:
    """`6.1 [1.4, …)` where the interval has no upper end."""
    if value.low is None or value.high is not None:
        return number(value, 1)
    return f"{value.mean:.1f} [{value.low:.1f}, …)"


def _interval(value: Mapping[str, Any] | None) -> Interval | None:
    return None if value is None else Interval(**value)
