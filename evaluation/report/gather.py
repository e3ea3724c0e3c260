"""Everything below a run's root, as the records of the report."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from evaluation.report.data import ReportData
from evaluation.report.sections import sections
from evaluation.report.sources import EVALUATE, Found, find
from evaluation.table import label
from trlx.utils.errors import UserError


def gather(root: str | Path, made: float | None = None) -> ReportData:
    """The report of a run; what is missing or unusable is in its `missing`.

    Args:
        root: the run's root folder. made: seconds since 1970, null for now.

    Raises: UserError when the root is no folder, or nothing below it can be shown.
    """
    found = find(root)
    if not found.anything:
        raise UserError(
            f"{root}: nothing to report, neither curves nor results; name a run's root folder with --root, or run the "
            "stages with the same --root (`make demo` makes a small run)"
        )
    shown = sections(found)  # first: it may add to what is missing
    facts = [fact for made_of in found.attempt("The run's facts", EVALUATE, _facts, found) for fact in made_of]
    return ReportData(
        title=_title(found),
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(made)),
        facts=facts,
        missing=found.missing,
        sections=shown,
        models=found.models,
        samples=found.samples,
    )


def _title(found: Found) -> str:
    task = found.run_facts.get("task")
    name = found.folder.root.name
    return f"Summarizers judged: {name}, task {task}" if task else f"Summarizers judged: {name}"


def _facts(found: Found) -> list[tuple[str, str]]:
    """Name and value, only what is known."""
    results = found.results
    facts = _run_facts(results) if results is not None else []
    if found.samples:
        facts.append(("Samples", f"{len(found.samples):,} posts of {', '.join(map(label, found.models))}"))
    if seeds := _training_seeds(found):
        facts.append(("Seeds of training", seeds))
    return facts


def _run_facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    run = results["run"]
    models = [(name, about) for name, about in results["models"].items() if about["kind"] == "model"]
    reward_model = results.get("reward_model", {})
    facts = [
        ("Task", run["task"]),
        ("Data", f"{run['data']}, split '{run['split']}'"),
        ("Posts", f"{results['posts']:,}"),
        ("Decoding", run["decoding_text"]),
        ("Models", ", ".join(f"{label(name)} ({about['path']})" for name, about in models)),
        ("Reward model", str(reward_model.get("path", "unknown"))),
    ]
    if accuracy := (reward_model.get("held_out") or {}).get("test", {}).get("accuracy"):
        facts.append(("Its accuracy on test pairs", f"{accuracy:.3f}"))
    if second := results.get("second_reward_model"):
        facts.append(("Second reward model", str(second["path"])))
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [*facts, ("Seed of the evaluation", str(run["seed"])), ("Versions", versions)]


def _training_seeds(found: Found) -> str:
    """`SFT 1, reward model 1`, from the run.json of those stages that write one."""
    seeds = []
    for name, folder in (("SFT", found.folder.sft), ("reward model", found.folder.reward_model)):
        path = folder / "run.json"
        if path.is_file():
            seed = json.loads(path.read_text(encoding="utf-8")).get("options", {}).get("seed")
            seeds += [f"{name} {seed}"] if seed is not None else []
    return ", ".join(seeds)
