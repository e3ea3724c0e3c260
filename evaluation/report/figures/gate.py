"""What the gate measured of the reward models: whether their confidence is right, and whether length fools them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evaluation.report.data import STAGE_NAMES
from evaluation.report.figures.style import FAINT, Plot, colours, grid, in_words, legend_below, styled
from evaluation.statistics import proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Gates = Mapping[str, Mapping[str, Any]]


@styled
def calibration(gates: Gates) -> Plot:
    """Accuracy against stated confidence, a bin of pairs a point, with Wilson's 95% interval; below, pairs a bin.

    Args:
        gates: key of `STAGE_NAMES` → content of gate.json.

    Raises: KeyError, TypeError or ValueError when one is not as the gate writes it.
    """
    drawing, places = grid(len(gates), 2, height=3.3)
    for axes, (key, gate) in zip(places, gates.items(), strict=True):
        _calibration(axes, gate["calibration"], colours([key])[key])
        axes.set_title(f"{STAGE_NAMES[key]}: ECE {gate['calibration']['ece']:.3f}")
    eces = in_words([f"{STAGE_NAMES[key].lower()} {gate['calibration']['ece']:.3f}" for key, gate in gates.items()])
    return Plot(
        id="calibration",
        title="Calibration: how often it is right when it is so sure",
        caption=(
            "Test pairs by confidence σ(|score difference|). Bars: 95% intervals (Wilson). On the line it is as often "
            "right as it says, below it is too sure. Shaded: share of pairs. ECE: mean distance to the line."
        ),
        alt=f"Accuracy against confidence. Expected calibration error: {eces}.",
        drawing=drawing,
    )


def _calibration(axes: Axes, content: Mapping[str, Any], colour: str) -> None:
    bins = [one for one in content["bins"] if one["pairs"]]
    if not bins:
        raise ValueError("the calibration has no pairs")
    pairs = sum(one["pairs"] for one in bins)
    axes.bar(
        [one["low"] for one in bins],
        [one["pairs"] / pairs for one in bins],
        width=[one["high"] - one["low"] for one in bins],
        align="edge",
        color=colour,
        alpha=0.13,
        label="share of pairs",
    )
    start = min(one["low"] for one in bins)
    axes.plot([start, 1], [start, 1], color=FAINT, linewidth=1, label="as sure as right")
    sure = [one["confidence"] for one in bins]
    spreads = [proportion(round(one["accuracy"] * one["pairs"]), one["pairs"]) for one in bins]
    lows, highs = [[one.low or 0.0 for one in spreads], [one.high or 0.0 for one in spreads]]
    axes.vlines(sure, lows, highs, color=colour, linewidth=1)
    axes.plot(sure, [one["accuracy"] for one in bins], "-o", color=colour, markersize=4, label="accuracy")
    axes.set_xlim(start, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.legend(loc="upper left")


@styled
def accuracy_by_length(gates: Gates) -> Plot:
    """Accuracy by how much longer the preferred side is, beside two judges that see length only.

    Raises: KeyError, TypeError or ValueError when one is not as the gate writes it.
    """
    drawing, places = grid(len(gates), 2, height=3.0)
    for axes, (key, gate) in zip(places, gates.items(), strict=True):
        _by_length(axes, gate, colours([key])[key])
        axes.set_title(STAGE_NAMES[key])
    legend_below(drawing, places)
    return Plot(
        id="accuracy-by-length",
        title="Accuracy by length difference",
        caption=(
            "Chosen minus rejected, in words; bars: 95% intervals. A judge of length alone is right on the right hand "
            "side and wrong on the left: a reward model whose accuracy falls to the left likes length."
        ),
        alt=f"Accuracy of {in_words([STAGE_NAMES[key].lower() for key in gates])} by difference in length.",
        drawing=drawing,
    )


def _by_length(axes: Axes, gate: Mapping[str, Any], colour: str) -> None:
    groups = [one for one in gate["accuracy"]["by_length_difference"] if one["pairs"]]
    if not groups:
        raise ValueError("accuracy by length difference has no pairs")
    places = list(range(len(groups)))
    for place, one in enumerate(groups):
        value = one["accuracy"]
        if value.get("low") is not None:
            axes.vlines(place, value["low"], value["high"], color=colour, linewidth=1)
    axes.plot(
        places, [one["accuracy"]["mean"] for one in groups], "o", color=colour, markersize=5, label="the reward model"
    )
    axes.axhline(gate["accuracy"]["accuracy"]["mean"], color=colour, linewidth=1, label="on all pairs")
    longer = gate.get("baselines", {}).get("longer_wins")
    if longer:
        axes.axhline(longer["mean"], color=FAINT, linestyle="--", linewidth=1, label='"longer wins" on all pairs')
    axes.axhline(0.5, color=FAINT, linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(places, [f"{_span(one['from'], one['to'])}\n{one['pairs']:,}" for one in groups])
    axes.set_xlabel("length difference, words; below: pairs")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1.03)
    axes.grid(visible=False, axis="x")


def _span(low: float | None, high: float | None) -> str:
    if low is None:
        text = "all" if high is None else f"< {high:g}"
    else:
        text = f"≥ {low:g}" if high is None else f"{low:g} to {high:g}"
    return text.replace("-", "−")
