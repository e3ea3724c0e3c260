"""PPO's course on the console, a row for each time that responses were collected, under llm-on-ray's names.

The numbers are those of `metrics.jsonl`; docs/metrics.md explains them. Left out: clipping and scaling of rewards.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trlx.utils.metrics import read_metrics

COLUMNS = ("policy_loss", "vf_loss", "kl", "entropy", "mean_reward_total", "mean_reward_rm", "mean_reward_kl")
MOST_ROWS = 12
Number = float | None


def course(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Number]]:
    """One row a phase: `step`, the optimizer steps done before it, and `COLUMNS`; None for what was not finite.

    Losses are means over the phase's optimizer steps; entropy is in nats a token, all else in nats or score a response.
    The KL term of the reward is −β · KL, and the total is the reward model's score with it.

    Args:
        lines: of metrics.jsonl.
    """
    rows: list[dict[str, Number]] = []
    losses: dict[str, list[float]] = {}
    for line in lines:
        if "rollout/phase" in line:
            score, kl, beta = (line.get(name) for name in ("rollout_scores/mean", "policy/kl", "kl_ctl_value"))
            penalty = None if kl is None or beta is None else -beta * kl
            rows.append({"step": line["step"], "kl": kl, "entropy": line.get("policy/entropy")})
            rows[-1] |= {"mean_reward_rm": score, "mean_reward_kl": penalty}
            rows[-1]["mean_reward_total"] = None if score is None or penalty is None else score + penalty
            losses = {"policy_loss": [], "vf_loss": []}
        elif rows and "losses/policy_loss" in line:
            for name, ours in (("policy_loss", "losses/policy_loss"), ("vf_loss", "losses/value_loss")):
                if line[ours] is not None:
                    losses[name].append(line[ours])
                    rows[-1][name] = statistics.fmean(losses[name])
    return rows


def print_course(folder: Path, console: Console) -> None:
    """A table of at most `MOST_ROWS` rows, the first and the last among them; nothing where there are no metrics.

    Args:
        folder: that holds metrics.jsonl.
    """
    rows = course(read_metrics(folder))
    if not rows:
        return
    table = Table(title="PPO, by llm-on-ray's names", caption="losses: means over the steps until the next row")
    for name in ("step", *COLUMNS):
        table.add_column(name, justify="right")
    for row in _some(rows, MOST_ROWS):
        table.add_row(str(row["step"]), *(_shown(row.get(name)) for name in COLUMNS))
    console.print(table)


def _some(rows: Sequence[dict[str, Number]], most: int) -> list[dict[str, Number]]:
    """So many of the rows at the most, spread evenly."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]


def _shown(value: Number) -> str:
    return "-" if value is None else f"{value + 0.0:.3f}"  # no minus zero
