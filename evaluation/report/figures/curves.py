"""Training curves: one small panel a quantity, steps to the right, lines as `metrics.jsonl` has them.

A curve of more than `MOST_POINTS` points is shown as means over as many equal stretches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.report.data import STAGE_NAMES
from evaluation.report.figures.style import FAINT, INK, Plot, colours, grid, in_words, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 400
FEW = 30  # up to so many points have marks of their own
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """Curves on common axes: key in metrics.jsonl → how it is called ("" for the panel's only one).

    Args:
        unit: what the y-axis says. level: a horizontal line and what it means. limits: of the y-axis.
    """

    title: str
    unit: str
    keys: Mapping[str, str]
    level: tuple[float, str] | None = None
    limits: tuple[float, float] | None = None


_CHANCE = (0.5, "chance")
_SHARE = (0.0, 1.04)
PANELS: dict[str, tuple[Panel, ...]] = {
    "sft": (
        Panel("Loss", "nats a token", {"loss": "training", "eval_loss": "validation"}),
        Panel(
            "ROUGE, validation",
            "F1",
            {"eval_rouge1": "ROUGE-1", "eval_rouge2": "ROUGE-2", "eval_rougeL": "ROUGE-L"},
        ),
        Panel("Summary length, validation", "tokens", {"eval_response_length": ""}),
        Panel("Ended within the limit", "share", {"eval_eos_rate": ""}, limits=_SHARE),
    ),
    "reward_model": (
        Panel("Loss", "nats a pair", {"loss": "training", "eval_loss": "validation"}, (math.log(2), "ln 2")),
        Panel(
            "Accuracy, validation",
            "share of pairs",
            {"eval_accuracy": "labels", "eval_accuracy_noise_free": "true labels"},
            _CHANCE,
        ),
        Panel("Scores, validation", "mean score", {"eval_chosen_score": "chosen", "eval_rejected_score": "rejected"}),
        Panel("Gradient norm", "before clipping", {"grad_norm": ""}),
    ),
    "rft": (
        Panel("Loss", "nats a token", {"loss": ""}),
        Panel("Reward", "mean score", {"rollout_scores/mean": "samples", "reward/mean": "evaluation"}),
        Panel("Held-out score", "mean", {"heldout/mean": ""}),
        Panel("Response length", "tokens", {"eval/response_length": ""}),
    ),
    "ppo": (
        Panel("Reward", "mean score", {"rollout_scores/mean": "rollouts", "reward/mean": "evaluation"}),
        Panel("Held-out score", "mean", {"heldout/mean": ""}),
        Panel("KL to the reference", "nats a response", {"policy/kl": "k1", "policy/kl_k3": "k3"}),
        Panel("sqrt_kl", "√nats", {"policy/sqrt_kl": ""}),
        Panel("Policy loss", "clipped objective", {"losses/policy_loss": ""}, (0.0, "")),
        Panel("Value loss", "½ squared error", {"losses/value_loss": ""}),
        Panel("approx_kl of a step", "nats a token", {"policy/approx_kl": ""}),
        Panel("clipfrac", "share of tokens", {"policy/clipfrac": ""}),
        Panel("Entropy", "nats a token", {"policy/entropy": ""}),
        Panel(
            "Response length", "tokens", {"rollout/response_length": "rollouts", "eval/response_length": "evaluation"}
        ),
        Panel(
            "Ended within the limit",
            "share",
            {"rollout/eos_rate": "rollouts", "eval/eos_rate": "evaluation"},
            limits=_SHARE,
        ),
        Panel("Explained variance", "of the returns", {"values/explained_variance": ""}, (0.0, "")),
    ),
}
PANELS["second_reward_model"] = PANELS["reward_model"]
_STYLES = (("-", "o"), ("--", "s"), (":", "^"))


@styled
def training_curves(stage: str, lines: Lines, flagged_at: int | None = None) -> Plot:
    """Every quantity of a stage that the lines have.

    Args:
        stage: key of `PANELS`. lines: of its metrics.jsonl. flagged_at: the step at which the monitor of PPO spoke.

    Raises: ValueError when the lines have none of the stage's quantities.
    """
    panels = [panel for panel in PANELS[stage] if any(series(lines, key)[0] for key in panel.keys)]
    if not panels:
        raise ValueError(f"no known quantity among {sorted({key for line in lines for key in line})[:9]}")
    drawing, places = grid(len(panels), 4)
    last = max(line["step"] for line in lines)
    for axes, panel in zip(places, panels, strict=True):
        axes.set_xlim(-0.03 * last, 1.03 * last or 1)
        _draw(axes, panel, lines, colours([stage])[stage])
        if flagged_at is not None:
            axes.axvline(flagged_at, color=INK, linestyle="--", linewidth=0.9, label="_flagged")
    shown = in_words([panel.title for panel in panels])
    flagged = f" Dashed upright: the monitor's warning at step {flagged_at}." if flagged_at is not None else ""
    means = f" Long curves: means of {MOST_POINTS} stretches." if len(lines) > MOST_POINTS else ""
    return Plot(
        id=f"curves-{stage.replace('_', '-')}",
        title=f"{STAGE_NAMES[stage]}: {last:,} optimizer steps",
        caption=f"As logged in metrics.jsonl; docs/metrics.md says what each means.{flagged}{means}",
        alt=f"Training curves of {STAGE_NAMES[stage]} over {last} steps: {shown}.",
        drawing=drawing,
    )


def series(lines: Lines, key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one quantity; a value that was no number (null) is a gap."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    values = [math.nan if value is None else float(value) for _, value in points]
    if all(math.isnan(value) for value in values):
        return [], []
    return thinned([float(step) for step, _ in points], values)


def thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """At most `MOST_POINTS` points: means of equal stretches, gaps left out of them."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    parts = [part for part in np.array_split(np.arange(len(steps)), MOST_POINTS)]
    value, step = np.asarray(values), np.asarray(steps)
    known = [part[~np.isnan(value[part])] for part in parts]
    return [float(step[part].mean()) for part in parts], [float(value[p].mean()) if p.size else math.nan for p in known]


def _draw(axes: Axes, panel: Panel, lines: Lines, colour: str) -> None:
    if panel.level is not None:
        axes.axhline(panel.level[0], color=FAINT, linewidth=1, linestyle="-", label=panel.level[1] or "_level")
    for (key, name), (dashes, mark) in zip(panel.keys.items(), _STYLES, strict=False):
        steps, values = series(lines, key)
        if not steps:
            continue
        measured = len(steps) <= FEW
        axes.plot(
            steps,
            values,
            dashes,
            color=colour if dashes == "-" else INK,
            marker=mark if measured else "",
            markersize=3.5,
            linewidth=1.4 if measured else 1.0,
            label=name or "_only",
        )
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.set_xlabel("step")
    if _names(axes):
        axes.legend(loc="best", handlelength=1.6, borderaxespad=0.2)


def _names(axes: Axes) -> Iterable[str]:
    return axes.get_legend_handles_labels()[1]


@styled
def monitor_curve(monitor: Mapping[str, Any]) -> Plot:
    """The reward that PPO trains on and the held-out score, side by side along training, with the best step of each.

    Raises: KeyError, TypeError or ValueError when `monitor.json` is not as PPO writes it.
    """
    history = monitor["history"]
    if not history:
        raise ValueError("its history is empty")
    drawing, places = grid(2, 2, height=2.6)
    for axes, key, title, best in zip(
        places,
        ("reward", "heldout"),
        ("Reward, trained on", f"Not trained on: {monitor['metric'].removeprefix('metrics/').replace('_', ' ')}"),
        ("best_by_reward", "best_by_heldout"),
        strict=True,
    ):
        _history(axes, history, key)
        chosen = monitor.get(best)
        if chosen:
            axes.axvline(chosen["step"], color=FAINT, linewidth=1, zorder=1, label=f"best: step {chosen['step']}")
        if monitor.get("flagged_at") is not None:
            step = monitor["flagged_at"]
            axes.axvline(step, color=INK, linestyle="--", linewidth=1, zorder=1, label=f"warning: step {step}")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_ylabel("mean, 95% interval")
        if _names(axes):
            axes.legend(loc="best")
    flagged = monitor.get("flagged_at")
    said = f"They parted at step {flagged}" if flagged is not None else "They never parted"
    back = ", and training went back to the best held-out checkpoint" if monitor.get("rolled_back") else ""
    return Plot(
        id="curves-monitor",
        title="Does the held-out score follow the reward?",
        caption=f"Evaluation prompts, continued with method.gen_kwargs of PPO's configuration. {said}{back}.",
        alt=f"Reward and held-out score at {len(history)} evaluations of PPO. {said}.",
        drawing=drawing,
    )


def _history(axes: Axes, history: Sequence[Mapping[str, Any]], key: str) -> None:
    known = [(entry["step"], _interval(entry[key])) for entry in history if entry.get(key) is not None]
    steps = [step for step, _ in known]
    axes.plot(steps, [value[0] for _, value in known], "-o", color=colours(["ppo"])["ppo"], markersize=4)
    spread = [(step, value) for step, value in known if value[1] is not None]
    if spread:
        axes.vlines(
            [step for step, _ in spread],
            [value[1] for _, value in spread],
            [value[2] for _, value in spread],
            color=colours(["ppo"])["ppo"],
            linewidth=1,
        )


def _interval(value: Any) -> tuple[Any, Any, Any]:
    """Mean, low and high of an interval or of a plain number."""
    return (value["mean"], value.get("low"), value.get("high")) if isinstance(value, Mapping) else (value, None, None)
