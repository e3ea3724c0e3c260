"""The report's sections: tables and figures under headings, in the order in which they are read.

The tables of results.json are shown as the evaluation printed them. A section without content is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.frontier_points import fit_table, point_table
from evaluation.gao import Fit, Refusal
from evaluation.report.data import STAGE_NAMES, Section
from evaluation.report.figures.plots import all_plots
from evaluation.report.sources import EVALUATE, FRONTIER, GATE, Found
from evaluation.statistics import Interval
from evaluation.table import Table, number
from reward_model.verdict import verdict_lines
from trlx.utils.strict import build

_ABOUT = {
    "results": (
        "Compare models by the paired differences, and believe a gain in reward where the second reward model, the "
        "gold score and the win rate at equal length gain too."
    ),
    "reward-model": (
        "Whether the score that PPO trains on can be trusted: the release gate's checks, how well its confidence is "
        "calibrated, and what it makes of length and of spoilt summaries."
    ),
    "frontier": (
        "More reward is bought with distance from SFT. What lies higher at the same KL is better; where the reward "
        "rises while gold or second reward fall, the policy has learnt to please its reward model."
    ),
    "training": "",
    "distributions": "Means hide tails: how scores and lengths are spread, and how many posts gained or lost.",
}
_TITLES = {
    "results": "Results",
    "reward-model": "Reward model",
    "frontier": "Frontier",
    "training": "Training curves",
    "distributions": "Distributions",
}
# A drawing may fail as late as it is laid out: section → who writes what its figures show.
_DRAWN_FROM = {
    "reward-model": GATE,
    "frontier": FRONTIER,
    "training": "the training of that stage writes its curves",
    "distributions": EVALUATE,
}


def sections(found: Found) -> list[Section]:
    """Those that have a table or a figure; adds to `found.missing` what could not be shown."""
    figures = {
        key: [
            figure
            for plot in plots
            for figure in found.attempt(f"The figure '{plot.title}'", _DRAWN_FROM[key], plot.to_figure)
        ]
        for key, plots in all_plots(found).items()
    }
    tables = {
        "results": _listed(found, found.attempt("The tables of results.json", EVALUATE, _result_tables, found)),
        "reward-model": _listed(found, found.attempt("The gate's tables", GATE, _gate_tables, found)),
        "frontier": _listed(found, found.attempt("The frontier's tables", FRONTIER, _frontier_tables, found)),
    }
    made = [Section(key, _TITLES[key], _ABOUT[key], tables.get(key, []), figures.get(key, [])) for key in _TITLES]
    return [section for section in made if section.tables or section.figures]


def _listed(found: Found, made: list[list[Table]]) -> list[Table]:
    return [table for tables in made for table in tables]


def _result_tables(found: Found) -> list[Table]:
    return [
        build(Table, table, f"tables.{place}") for place, table in enumerate((found.results or {}).get("tables", []))
    ]


def _gate_tables(found: Found) -> list[Table]:
    return [table for key, gate in found.gates.items() for table in gate_tables(STAGE_NAMES[key], gate)]


def gate_tables(name: str, gate: Mapping[str, Any]) -> list[Table]:
    """The checks, and accuracy by group where the data name groups."""
    checks = Table(
        title=f"{name}: {gate['verdict']}",
        header=["Check", "What", "Measured", "Must be", "On", "Verdict"],
        rows=[
            [one.name.replace("_", " "), one.why or one.about, one.measured, one.wanted, f"{one.n:,}", one.status]
            for one in gate["checks"]
        ],
        caption="Brackets: 95% intervals. Thresholds: the gate's configuration.",
        above=verdict_lines(gate["verdict"] == "PASS", gate["checks"])[0] + ".",
    )
    by = gate["accuracy"].get("by", {})
    groups = Table(
        title=f"{name}: accuracy by group",
        header=["Group", "Value", "Accuracy", "Pairs"],
        rows=[
            [group, value, number(Interval(**one["accuracy"])), f"{one['pairs']:,}"]
            for group, values in by.items()
            for value, one in values.items()
        ],
        caption="Test pairs. Brackets: 95% interval (Wilson).",
    )
    return [table for table in (checks, groups) if table.rows]


def _frontier_tables(found: Found) -> list[Table]:
    content = found.frontier
    if content is None:
        return []
    conditions = f"{content['posts']} posts of split '{content['split']}', {content['decoding_text']}"
    caption = (
        f"{conditions}. KL: nats a response, of "
        "best-of-n the analytic bound. Brackets: 95% bootstrap interval over posts."
    )
    tables = [point_table(content["points"], caption)]
    fits: list[Fit | Refusal] = [build(Fit, one, "fits") for one in content.get("fits", [])]
    fits += [build(Refusal, one, "fits_refused") for one in content.get("fits_refused", [])]
    return [*tables, fit_table(fits, conditions)] if fits else tables
