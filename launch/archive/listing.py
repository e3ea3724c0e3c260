"""The archives in a folder as a table: when they ran, for how long, seeds, headline numbers; whole or damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.table import Table, label
from launch.archive.writing import ARCHIVE_FILE
from trlx.utils.errors import UserError
from trlx.utils.manifest import damage
from trlx.utils.terminal import inert

NOT_KNOWN = "–"


def read_archives(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(name, archive.json) of every archive in a folder, oldest run first.

    Raises: UserError for a folder without one, and for an archive.json that cannot be read.
    """
    found = [(path.parent.name, _read(path)) for path in folder.glob(f"[!.]*/{ARCHIVE_FILE}")]
    if not found:
        raise UserError(f"{folder} holds no archived run: `python -m launch archive ROOT` makes one")
    return sorted(found, key=lambda one: (str(one[1].get("began")), one[0]))


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict) and isinstance(facts.get("stages"), dict):
            return facts
    except (OSError, ValueError):
        pass
    raise UserError(f"{path}: no record of an archive: put it back, or move the folder elsewhere")


def table(folder: Path, archives: Sequence[tuple[str, dict[str, Any]]], check: bool) -> Table:
    """| Archive | Minutes | Seeds | Accuracy | Reward | Gold | (Whole?) |

    Args:
        check: read every file and compare it with its checksum.
    """
    header = ["Archive", "Minutes", "Seeds", "Accuracy", "Reward", "Gold"]
    rows = [[inert(name), *_row(facts)] for name, facts in archives]
    if check:
        header.append("Whole?")
        rows = [[*row, damage(folder / name) or "yes"] for row, (name, _) in zip(rows, archives, strict=True)]
    return Table(
        "Archived runs",
        header,
        rows,
        f"In {inert(str(folder))}; a name ends in when the run began. Minutes: of the stages whose time is known. "
        "Accuracy: of the reward model on held-out pairs. Reward, gold: means of the baseline → of PPO on the "
        f"evaluation's posts; each run has its own reward model. Commit, versions, intervals: {ARCHIVE_FILE} in each.",
    )


def _row(facts: dict[str, Any]) -> list[str]:
    stages, results = facts["stages"].values(), facts.get("results") or {}
    seconds = [stage["seconds"] for stage in stages if stage.get("seconds") is not None]
    seeds = dict.fromkeys(str(stage["seed"]) for stage in stages if stage.get("seed") is not None)
    accuracy = results.get("reward_model_accuracy")
    return [
        f"{sum(seconds) / 60:.1f}" if seconds else NOT_KNOWN,
        " ".join(seeds) or NOT_KNOWN,
        NOT_KNOWN if accuracy is None else f"{accuracy:.3f}",
        *(moved(results, measure) for measure in ("reward", "gold")),
    ]


def moved(results: dict[str, Any], measure: str) -> str:
    """The baseline's mean and PPO's; a dash for what was not measured."""
    models, baseline = results.get("models", {}), results.get("baseline", "sft")
    means = [models.get(name, {}).get(measure, {}).get("mean") for name in (baseline, "ppo")]
    if all(mean is None for mean in means):
        return NOT_KNOWN
    return " → ".join(NOT_KNOWN if mean is None else f"{mean:.3f}" for mean in means)


def headline_text(results: dict[str, Any] | None) -> str:
    """One line for people."""
    if results is None:
        return "not evaluated"
    names = f"{label(results['baseline'])} → {label('ppo')}"
    found = [f"{measure} {text}" for measure in ("reward", "gold") if (text := moved(results, measure)) != NOT_KNOWN]
    return f"{names}: {', '.join(found)}" if found else f"{results['posts']} posts judged"
