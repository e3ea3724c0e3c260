"""What a nat of KL buys: every policy of `frontier.json` at its distance from SFT, by each measure.

The KL axis is drawn by its root, in which Gao et al. ("Scaling laws for reward model overoptimization", 2023) write
their curves: R = d(α − β log d) for RL and R = d(α − βd) for best-of-n, d = √KL. Here R is a gain, so the curves begin
at the baseline's mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.gao import curve
from evaluation.report.figures.style import INK, Plot, colours, grid, in_words, legend_below, styled
from evaluation.table import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {
    "reward": "Reward, trained on",
    "second_reward": "Second reward model",
    "gold": "Gold score",
    "rouge_average": "ROUGE, average of three",
    "response_tokens": "Response length, tokens",
}
# Kind of a point → whose colour it has, its mark, and its name in the legend.
_KINDS = {
    "sft": ("sft", "o", "SFT"),
    "best_of_n": ("best_of_n", "s", "best of n (KL: upper bound)"),
    "ppo_checkpoint": ("ppo", "o", "PPO along training"),
    "ppo": ("ppo", "D", "PPO, best by reward"),
    "ppo_heldout": ("ppo_heldout", "o", "PPO, best held-out"),
    "rft": ("rft", "^", "RFT"),
}
_ORDER = {kind: place for place, kind in enumerate(_KINDS)}
_OTHER_MARKS = "vXh<>p"
_FIT_OF = {"rl": "ppo", "best_of_n": "best_of_n"}
_TICKS = (0, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
_ROOM = 0.11  # least distance of two ticks, as a share of the axis
Point = Mapping[str, Any]


@styled
def frontier(content: Mapping[str, Any]) -> Plot:
    """One panel a measure, over a KL axis that all share.

    Raises: KeyError, TypeError or ValueError when the content is not as `evaluation.frontier` writes it.
    """
    points: Sequence[Point] = sorted(content["points"], key=lambda point: _ORDER.get(point["kind"], len(_ORDER)))
    measures = [name for name in MEASURES if any(point.get(name) for point in points)]
    if not measures:
        raise ValueError("none of its points has a measure")
    drawing, places = grid(len(measures), 2 if len(measures) == 4 else 3, height=3.0)
    reach = max(point["kl"].get("high") or _kl(point) for point in points)
    for axes, measure in zip(places, measures, strict=True):
        _panel(axes, points, measure)
        for fit in content.get("fits", []):
            if fit["measure"] == measure:
                _fit(axes, fit, points, content["baseline"])
        _kl_axis(axes, reach)
        axes.set_title(MEASURES[measure])
    legend_below(drawing, places)
    kinds = [entry for entry in dict.fromkeys(_kind(point)[2] for point in points)]
    return Plot(
        id="frontier",
        title="What distance from SFT buys",
        caption=_caption(content),
        alt=f"Mean {in_words([MEASURES[name].lower() for name in measures])} against KL for {in_words(kinds)}.",
        drawing=drawing,
    )


def _caption(content: Mapping[str, Any]) -> str:
    bound = (
        " Best of n: the KL is the analytic bound log n − (n − 1)/n, an upper one."
        if any(point["kind"] == "best_of_n" for point in content["points"])
        else ""
    )
    fits = " Dotted: Gao et al.'s curves fitted to the points." if content.get("fits") else ""
    return (
        f"{content['posts']} posts of split '{content['split']}', {content['decoding_text']}: the same for all points. "
        f"Bars: 95% bootstrap intervals over posts. KL axis by its root.{bound}{fits}"
    )


def _kl(point: Point) -> float:
    """Nats a response; an estimate below 0 is noise about 0."""
    return max(0.0, float(point["kl"]["mean"]))


def _kind(point: Point) -> tuple[str, str, str]:
    """Colour's name, mark and legend; a model of no known kind goes by its name."""
    name = str(point["name"])
    mark = _OTHER_MARKS[sum(name.encode()) % len(_OTHER_MARKS)]
    return _KINDS.get(point["kind"]) or (name, mark, label(name))


def _panel(axes: Axes, points: Sequence[Point], measure: str) -> None:
    """Points with intervals both ways; best-of-n by n and PPO's checkpoints by step are joined, from SFT on."""
    known = [point for point in points if point.get(measure)]
    palette = colours(dict.fromkeys(_kind(point)[0] for point in points))
    for legend in dict.fromkeys(_kind(point)[2] for point in known):
        group = [point for point in known if _kind(point)[2] == legend]
        who, mark, _ = _kind(group[0])
        joined = group[0]["kind"] in ("best_of_n", "ppo_checkpoint")
        if joined:
            group = sorted(group, key=lambda point: point.get("n") or point.get("step") or 0)
        marked = [point for point in group if _is_marked(point)]
        _errors(axes, marked, measure, palette[who])
        start = [point for point in known if point["kind"] == "sft"] if joined else []
        hollow = group[0]["kind"] == "ppo_heldout"  # it may be the same policy as the best by reward
        axes.plot(
            [_kl(point) for point in [*start, *group]],
            [point[measure]["mean"] for point in [*start, *group]],
            linestyle="-" if joined else "",
            linewidth=1.2,
            marker=mark,
            markevery=[len(start) + place for place, point in enumerate(group) if point in marked],
            markersize=5.5 if joined else 12 if hollow else 7.5,
            clip_on=False,  # SFT lies on the edge
            markeredgecolor=palette[who] if hollow else "white",
            markeredgewidth=1.8 if hollow else 0.6,
            markerfacecolor="none" if hollow else palette[who],
            color=palette[who],
            label=legend,
            zorder=3 if joined else 4,
        )
        if group[0]["kind"] == "best_of_n":
            _say_n(axes, group, measure)


def _is_marked(point: Point) -> bool:
    """Of best-of-n, powers of two only: the line goes through all."""
    n = point.get("n") or 1
    return point["kind"] != "best_of_n" or n & (n - 1) == 0


def _say_n(axes: Axes, group: Sequence[Point], measure: str) -> None:
    """The n of the first and the last point: those between follow."""
    for point in [group[0], group[-1]] if len(group) > 1 else group:
        axes.annotate(
            f"n = {point['n']}",
            (_kl(point), point[measure]["mean"]),
            xytext=(5, -10),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
        )


def _errors(axes: Axes, group: Sequence[Point], measure: str, colour: str) -> None:
    for point in group:
        kl, value = point["kl"], point[measure]
        if value.get("low") is not None:
            axes.vlines(_kl(point), value["low"], value["high"], color=colour, linewidth=1, alpha=0.7)
        if kl.get("low") is not None and kl["high"] > kl["low"]:
            axes.hlines(value["mean"], max(0.0, kl["low"]), max(0.0, kl["high"]), color=colour, linewidth=1, alpha=0.7)


def _fit(axes: Axes, fit: Mapping[str, Any], points: Sequence[Point], baseline: str) -> None:
    """Gao et al.'s curve as far as the points it was fitted to reach."""
    measure, who = fit["measure"], _FIT_OF[fit["kind"]]
    start = next((point[measure]["mean"] for point in points if point["name"] == baseline and point.get(measure)), None)
    reach = max((_kl(point) for point in points if _KINDS.get(point["kind"], ("",))[0] == who), default=0.0)
    if start is None or reach <= 0:
        return
    root = np.linspace(0.0, math.sqrt(reach), 60)
    gain = curve(fit["kind"], fit["alpha"]["mean"], fit["beta"]["mean"], root)
    axes.plot(
        root**2, start + gain, ":", color=colours([who])[who], linewidth=1.6, label="Gao et al.'s curve", zorder=2
    )


def _kl_axis(axes: Axes, reach: float) -> None:
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    end = max(reach, 1e-3) * 1.15
    axes.set_xlim(0, end)
    axes.set_xticks(ticks := kl_ticks(end), [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("KL to SFT, nats a response")


def kl_ticks(end: float) -> list[float]:
    """Round values from 0 to the end, far enough apart on an axis by the root."""
    ticks: list[float] = []
    for tick in _TICKS:
        if tick <= end and (not ticks or math.sqrt(tick / end) - math.sqrt(ticks[-1] / end) >= _ROOM):
            ticks.append(tick)
    return ticks
