"""What is known of a run: when each stage ran, with which commit, versions and seeds, and its headline numbers.

From `train.sh`'s record where there is one, else from the stages' own. Left out: anything that is not written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evaluation.run_results import RunResults, read_results
from launch.archive.contents import models_in
from launch.outputs import read_record
from launch.pipeline.folder import Record
from launch.pipeline.stages import STAGES
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError
from trlx.utils.metrics import read_metrics

MEASURES = ("reward", "gold", "rougeL")
FINISHED = "finished"
CLASSIFIER = "classifier"  # shares its folder with the stage of the reward model


def run_facts(run: RunFolder) -> dict[str, Any]:
    """JSON-able facts of a run.

    Raises: UserError for a root without a run, or with a record or results that cannot be read.
    """
    if not models_in(run):
        raise UserError(f"{run.root} holds no model of a run: name the root folder of a run, as in runs/2026-11-21-1")
    record = Record(run).facts
    stages = {name: found for name in STAGES if (found := _stage(run, name, record["stages"].get(name)))}
    last = record["starts"][-1] if record["starts"] else {}
    own = [facts for folder in _stage_folders(run).values() if (facts := read_record(folder))]
    return {
        "began": _began(run, record).isoformat(timespec="seconds"),
        "stages": stages,
        "planned": last.get("stages"),
        "command": last.get("command"),
        "git": last.get("git"),
        "versions": last.get("versions") or next((facts["versions"] for facts in own if "versions" in facts), None),
        "results": headline(run),
    }


def unfinished(facts: dict[str, Any]) -> str | None:
    """Why a run is not finished, in words; None where it is."""
    for name, stage in facts["stages"].items():
        if stage["state"] not in (FINISHED, None):
            return f"{name} has not finished ({stage['state']})"
    for name in facts["planned"] or []:
        if name not in facts["stages"]:
            return f"{name} has not begun"
    return None


def _stage_folders(run: RunFolder) -> dict[str, Path]:
    return {name: stage.out(run) for name, stage in STAGES.items() if stage.out is not None}


def _stage(run: RunFolder, name: str, noted: dict[str, Any] | None) -> dict[str, Any] | None:
    """One stage's facts, `noted` being those of train.sh's record; None for one that left nothing.

    The state is None where a stage without a record left its metrics.
    """
    folder = _stage_folders(run).get(name)
    own = None if folder is None else read_record(folder)
    metrics = [] if folder is None else read_metrics(folder)
    if (name == CLASSIFIER) != ((own or {}).get("stage") == CLASSIFIER):
        own, metrics = None, []  # the other stage that makes a reward model wrote this folder
    if noted is None and own is None and not metrics:
        return None
    facts: dict[str, Any] = {"state": None, **(noted or {})}
    if noted is None and own is not None:
        facts["state"] = FINISHED if own.get("finished") else "unfinished"
    if metrics:
        facts["steps"] = metrics[-1]["step"]
        facts = _span(metrics) | facts
    if own is not None:
        options = own.get("options", {})
        facts |= {"seed": _seed(options, STAGES[name].seed), "processes": own.get("world_size")}
    return facts


def _span(metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """From the first line of a stage's metrics to the last; empty where the lines have no time."""
    first, last = metrics[0].get("time"), metrics[-1].get("time")
    if not isinstance(first, int | float) or not isinstance(last, int | float):
        return {}
    return {"begun": _as_text(first), "ended": _as_text(last), "seconds": round(last - first, 1)}


def _seed(options: Any, name: str | None) -> int | None:
    """None for a stage that has no seed, or did not note it."""
    if name is None:
        return None
    for part in name.split("."):
        options = options.get(part) if isinstance(options, dict) else None
    return options if isinstance(options, int) else None


def _as_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _began(run: RunFolder, record: dict[str, Any]) -> datetime:
    """When a run was first started; else when the first of its metrics, or else of its models, was written."""
    if record["starts"]:
        return datetime.fromisoformat(record["starts"][0]["at"])
    times = list(_times(run)) or [(folder / "config.json").stat().st_mtime for folder in models_in(run)]
    return datetime.fromtimestamp(min(times)).astimezone()


def _times(run: RunFolder) -> Iterator[float]:
    for folder in _stage_folders(run).values():
        for line in read_metrics(folder)[:1]:
            if isinstance(line.get("time"), int | float):
                yield line["time"]


def headline(run: RunFolder) -> dict[str, Any] | None:
    """Means and intervals of every model judged, and the reward model's accuracy; None without an evaluation.

    Raises: UserError for a results.json that cannot be read.
    """
    if not run.results.is_file():
        return None
    found = read_results(str(run.root))
    accuracy = found.results.get("reward_model", {}).get("held_out", {}).get("test", {}).get("accuracy")
    models = {name: _numbers(found, name) for name in found.results["models"]}
    facts = found.results["run"]
    return {
        "posts": found.results["posts"],
        "split": facts.get("split"),
        "baseline": found.results["baseline"],
        "reward_model_accuracy": accuracy,
        "models": {name: numbers for name, numbers in models.items() if numbers},
    }


def _numbers(found: RunResults, name: str) -> dict[str, Any]:
    model = found.model(name) or {}
    numbers = {measure: model[measure] for measure in MEASURES if model.get(measure) is not None}
    kl = (model.get("kl") or {}).get("k1")
    return {**numbers, "kl": kl} if kl else numbers
