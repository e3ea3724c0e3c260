"""Numbers as a table, a JSON file and a plot."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.measure import SIDES, Measured
from benchmarks.timing import PHASES, Iteration

PACKAGES = ("torch", "transformers", "accelerate")


def machine(device: str, threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def title(measured: Measured) -> str:
    """A workload in a few words."""
    trained = measured.workload.layers_unfrozen
    layers = "all layers" if trained < 0 else f"top {trained} layers"
    return f"{measured.workload.shape}, {layers}" + (", ragged" if measured.workload.ragged else "")


def speedup(measured: Measured) -> float:
    """Median baseline seconds over median engine seconds."""
    return _median(measured.repeats["baseline"]) / _median(measured.repeats["engine"])


def _median(repeats: Sequence[Iteration]) -> float:
    return statistics.median(each.total for each in repeats)


def phase_medians(repeats: Sequence[Iteration]) -> dict[str, float]:
    """The median of each phase's seconds."""
    return {name: statistics.median(each.seconds[name] for each in repeats) for name in PHASES}


def as_dict(measured: Measured) -> dict[str, Any]:
    """Everything about one workload, JSON-able, without where it ran."""
    workload = dataclasses.asdict(measured.workload)
    workload.pop("folder")
    cpu = {side: statistics.median(each.cpu for each in measured.repeats[side]) for side in SIDES}
    totals = {side: [each.total for each in measured.repeats[side]] for side in SIDES}
    return {
        "title": title(measured),
        "workload": workload,
        "speedup": speedup(measured),
        "speedup_range": [
            min(totals["baseline"]) / max(totals["engine"]),
            max(totals["baseline"]) / min(totals["engine"]),
        ],
        "speedup_in_processor_time": cpu["baseline"] / cpu["engine"],
        "differences": measured.differences,
        "repeats": {side: [dataclasses.asdict(each) for each in measured.repeats[side]] for side in SIDES},
    }


def write_json(path: Path, measured: Sequence[Measured]) -> None:
    """All numbers and the machine they come from."""
    first = measured[0].workload
    content = {"machine": machine(first.device, first.threads), "results": [as_dict(each) for each in measured]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make_table(measured: Measured) -> Table:
    """Median seconds by phase of both sides, and baseline / engine."""
    table = Table(title=title(measured), caption=_caption(measured))
    table.add_column("median seconds")
    for column in (*SIDES, "ratio"):
        table.add_column(column, justify="right")
    baseline, engine = (phase_medians(measured.repeats[side]) for side in SIDES)
    for name in PHASES:
        table.add_row(name, f"{baseline[name]:.2f}", f"{engine[name]:.2f}", _times(baseline[name], engine[name]))
    totals = [_spread([each.total for each in measured.repeats[side]]) for side in SIDES]
    table.add_row("total (min..max)", *totals, f"{speedup(measured):.2f}", style="bold")
    tokens = [int(statistics.median(each.tokens for each in measured.repeats[side])) for side in SIDES]
    table.add_row("response tokens", *(f"{count:,}" for count in tokens), "")
    peaks = [max((each.peak_bytes or 0 for each in measured.repeats[side]), default=0) for side in SIDES]
    table.add_row("peak memory, GB", *(f"{peak / 1e9:.2f}" for peak in peaks), _times(*peaks))
    return table


def _times(baseline: float, engine: float) -> str:
    return f"{baseline / engine:.2f}" if engine > 0.005 and baseline > 0.005 else ""


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def _caption(measured: Measured) -> str:
    gaps = measured.repeats["engine"][-1].gaps
    passes = ", ".join(f"{name} {value:.1e}" for name, value in gaps.items())
    return f"largest difference between the sides {max(measured.differences.values()):.1e}; nats a token: {passes}"


def plot(path: Path, measured: Sequence[Measured]) -> None:
    """Stacked bars of median seconds by phase, baseline beside engine, with the total's range."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(measured), figsize=(1.5 + 3.2 * len(measured), 4.5), squeeze=False)
    for panel, each in zip(panels[0], measured, strict=True):
        _draw(panel, each)
    panels[0][0].set_ylabel("seconds of one PPO iteration")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="center right", frameon=False)
    figure.tight_layout(rect=(0, 0, 1 - 1.3 / figure.get_figwidth(), 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw(panel: Any, measured: Measured) -> None:
    medians = [phase_medians(measured.repeats[side]) for side in SIDES]
    bottom = [0.0] * len(SIDES)
    for name in PHASES:
        heights = [median[name] for median in medians]
        panel.bar(SIDES, heights, bottom=bottom, label=name, width=0.6)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    for place, side in enumerate(SIDES):
        totals = [each.total for each in measured.repeats[side]]
        middle = (min(totals) + max(totals)) / 2
        panel.errorbar(place, middle, yerr=max(totals) - middle, color="black", capsize=4)
    panel.set_title(f"{title(measured)}\n{speedup(measured):.1f} times as fast")
