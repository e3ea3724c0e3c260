"""Before and after: how rewards, gold scores and lengths are spread over posts, and what changed on each post."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluation.report.data import Sample
from evaluation.report.figures.style import INK, REFERENCE, Plot, colours, grid, in_words, legend_below, styled
from evaluation.table import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 28
Values = dict[str, list[float]]  # by model


@styled
def distributions(models: Sequence[str], samples: Sequence[Sample], decoding: str = "") -> Plot:
    """Histograms over posts of every model and of the references, outlines over each other, with their means.

    Args:
        decoding: how the summaries were made; "" where that is not known.

    Raises: ValueError when no measure has a value.
    """
    measured = {title: _by_model(models, samples, get) for title, (get, _) in _MEASURES.items()}
    measured = {title: values for title, values in measured.items() if values}
    if not measured:
        raise ValueError("no sample has a score")
    palette = colours([*models, REFERENCE])
    drawing, places = grid(len(measured), 4, height=2.9)
    for axes, (title, values) in zip(places, measured.items(), strict=True):
        edges = _edges(values)
        for name, numbers in values.items():
            _outline(axes, numbers, edges, palette[name], label(name))
        axes.set_title(title)
        axes.set_xlabel(_MEASURES[title][1])
        axes.set_ylabel("posts")
    legend_below(drawing, places)
    return Plot(
        id="distributions",
        title="Before and after",
        caption=f"{len(samples):,} posts that all models have. {_made(decoding)} Upright lines: means.",
        alt=f"Histograms of {in_words([title.lower() for title in measured])} for "
        f"{in_words([*map(label, models), 'the references'])}.",
        drawing=drawing,
    )


@styled
def changes(models: Sequence[str], samples: Sequence[Sample], decoding: str = "") -> Plot:
    """Histograms of each model's change from the first one, post by post.

    Args:
        decoding: how the summaries were made; "" where that is not known.

    Raises: ValueError when there is nothing to compare.
    """
    first, *others = models
    measured: dict[str, Values] = {}
    for title, (get, _) in _MEASURES.items():
        values = {name: _differences(samples, name, first, get) for name in others}
        if values := {name: numbers for name, numbers in values.items() if numbers}:
            measured[title] = values
    if not measured:
        raise ValueError(f"no model besides {first} has a score")
    palette = colours([*models, REFERENCE])
    drawing, places = grid(len(measured), 4, height=2.9)
    for axes, (title, values) in zip(places, measured.items(), strict=True):
        edges = _edges(values)
        for name, numbers in values.items():
            _outline(axes, numbers, edges, palette[name], f"{label(name)} − {label(first)}")
        axes.axvline(0, color=INK, linewidth=0.8, label="_zero")
        axes.set_title(title)
        axes.set_xlabel(f"change: {_MEASURES[title][1]}")
        axes.set_ylabel("posts")
    legend_below(drawing, places)
    return Plot(
        id="changes",
        title=f"Change from {label(first)}, post by post",
        caption=f"{len(samples):,} posts. {_made(decoding)} Right of 0: more than {label(first)}'s on the same post. "
        f"{_shares(measured)}",
        alt=f"Histograms of the change from {label(first)}. {_shares(measured)}",
        drawing=drawing,
    )


def _made(decoding: str) -> str:
    return f"Summaries: {decoding or 'decoding not known, results.json would say it'}."


def _shares(measured: Mapping[str, Values]) -> str:
    """`Reward rises on 71% of posts and falls on 20% (PPO); ...`"""
    said = []
    for title, values in measured.items():
        for name, numbers in values.items():
            up, down = np.mean(np.asarray(numbers) > 0), np.mean(np.asarray(numbers) < 0)
            said.append(f"{title}: up on {up:.0%}, down on {down:.0%} ({label(name)})")
    return "; ".join(said) + "."


def _score(key: str) -> Callable[[Sample, str], float | None]:
    def get(sample: Sample, model: str) -> float | None:
        scores = sample.reference_scores if model == REFERENCE else sample.outputs[model].scores
        return scores.get(key)

    return get


def _words(sample: Sample, model: str) -> float | None:
    return float(len((sample.reference if model == REFERENCE else sample.outputs[model].text).split()))


def _agreement(sample: Sample, model: str) -> float | None:
    return None if model == REFERENCE else sample.outputs[model].scores.get("rougeL")


# Title of a panel → its value for a post and a model (or the reference), and the unit.
_MEASURES: dict[str, tuple[Callable[[Sample, str], float | None], str]] = {
    "Reward": (_score("reward"), "score"),
    "Second reward model": (_score("second_reward"), "score"),
    "Gold score": (_score("gold"), "score"),
    "Length": (_words, "words"),
    "ROUGE-L": (_agreement, "F1"),
}


def _by_model(models: Sequence[str], samples: Sequence[Sample], get: Callable[[Sample, str], float | None]) -> Values:
    values = {name: [get(sample, name) for sample in samples] for name in (*models, REFERENCE)}
    known = {name: [one for one in numbers if one is not None] for name, numbers in values.items()}
    return {name: numbers for name, numbers in known.items() if numbers}


def _differences(
    samples: Sequence[Sample], model: str, first: str, get: Callable[[Sample, str], float | None]
) -> list[float]:
    pairs = [(get(sample, model), get(sample, first)) for sample in samples]
    return [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]


def _edges(values: Values) -> np.ndarray:
    """Common bins from the 0.5th to the 99.5th percentile; what lies beyond is counted in the outer bins."""
    everything = np.concatenate([np.asarray(numbers) for numbers in values.values()])
    low, high = np.percentile(everything, [0.5, 99.5])
    return np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)


def _outline(axes: Axes, numbers: Sequence[float], edges: np.ndarray, colour: str, name: str) -> None:
    inside = np.clip(numbers, edges[0], edges[-1])
    axes.hist(inside, bins=list(edges), histtype="stepfilled", color=colour, alpha=0.12)
    axes.hist(inside, bins=list(edges), histtype="step", color=colour, linewidth=1.4, label=name)
    axes.axvline(float(np.mean(numbers)), color=colour, linewidth=1.2, linestyle="--")
