"""Which figures a run's files give, by section of the report; one that cannot be drawn is said, the rest are drawn."""

from __future__ import annotations

from evaluation.report.data import STAGE_NAMES
from evaluation.report.figures.curves import monitor_curve, training_curves
from evaluation.report.figures.distributions import changes, distributions
from evaluation.report.figures.frontier import frontier
from evaluation.report.figures.gate import accuracy_by_length, calibration
from evaluation.report.figures.style import Plot
from evaluation.report.sources import CURVES, EVALUATE, FRONTIER, GATE, MONITOR, Found


def all_plots(found: Found) -> dict[str, list[Plot]]:
    """Section's id → its figures, in order; adds to `found.missing` what could not be drawn."""
    return {
        "reward-model": _gate(found),
        "frontier": found.attempt("The frontier", FRONTIER, frontier, found.frontier) if found.frontier else [],
        "training": _training(found),
        "distributions": _distributions(found),
    }


def _gate(found: Found) -> list[Plot]:
    if not found.gates:
        return []
    by_length = found.attempt("Accuracy by length", GATE, accuracy_by_length, found.gates)
    return [*found.attempt("The calibration curve", GATE, calibration, found.gates), *by_length]


def _training(found: Found) -> list[Plot]:
    plots = []
    flagged_at = found.monitor.get("flagged_at") if found.monitor else None
    for key, lines in found.metrics.items():
        what = f"Training curves of {STAGE_NAMES[key]}"
        plots += found.attempt(what, CURVES[key], training_curves, key, lines, flagged_at if key == "ppo" else None)
    return plots + (found.attempt("The monitor", MONITOR, monitor_curve, found.monitor) if found.monitor else [])


def _distributions(found: Found) -> list[Plot]:
    if not found.samples:
        return []
    decoding = str(found.run_facts.get("decoding_text") or "")
    plots = found.attempt("Distributions", EVALUATE, distributions, found.models, found.samples, decoding)
    if len(found.models) > 1:
        plots += found.attempt("Changes by post", EVALUATE, changes, found.models, found.samples, decoding)
    return plots
