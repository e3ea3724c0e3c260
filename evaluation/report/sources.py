"""What a run's files say, each read for itself: a file that is missing or unusable costs its part of the report only.

`find` looks below one root through `tasks.run_folder.RunFolder`. Whatever it cannot read becomes a sentence of
`Found.missing`, with the remedy. Left out: TensorBoard files and models.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from evaluation.baselines import BASELINES
from evaluation.report.data import STAGE_NAMES, Sample
from evaluation.report.joining import TOGETHER, join
from evaluation.samples import SampleRow, read_samples
from reward_model.verdict import GATE_FILE, read_gate
from tasks.run_folder import RunFolder
from trlx.utils.digest import model_digest
from trlx.utils.errors import BadKey, UserError, one_line
from trlx.utils.metrics import METRICS_FILE, read_metrics

RESULTS_FORMAT = 2
FRONTIER_FORMAT = 1
MONITOR_FORMAT = 1
EVALUATE = "`python trlx_inference_gptneo.py` with the same --root writes it"
GATE = "`python -m reward_model.gate` with the same --root writes it"
FRONTIER = "`python -m evaluation frontier` with the same --root writes it"

# Who writes a stage's curves.
CURVES = {
    "sft": "`deepspeed sft/train_gptneo_summarize.py` writes them",
    "reward_model": "`deepspeed reward_model/train_reward_model_gptneo.py` writes them",
    "second_reward_model": "the training of that reward model writes them",
    "rft": "`accelerate launch trlx_gptneo_rft_summarization.py` writes them",
    "ppo": "`accelerate launch trlx_gptneo_text_summarization.py` writes them",
}
SAME = 1e-4  # means of the same rewards differ by rounding only
MONITOR = "PPO writes it when it watches a held-out score (its option --monitor)"
# What a file with other content than its writer's makes of the code that reads it.
_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, csv.Error)
T = TypeVar("T")
P = ParamSpec("P")


@dataclass
class Found:
    """Everything that was found below a root, as it was found; None or empty where there is nothing usable."""

    folder: RunFolder
    results: dict[str, Any] | None = None
    models: list[str] = field(default_factory=list)  # with samples; the baseline of the comparisons first
    samples: list[Sample] = field(default_factory=list)
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)  # "reward_model", "second_reward_model"
    frontier: dict[str, Any] | None = None
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # key of STAGE_NAMES → lines
    monitor: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there is something to show."""
        return bool(self.results or self.samples or self.gates or self.frontier or self.metrics)

    @property
    def run_facts(self) -> dict[str, Any]:
        """What results.json says of its run; empty where it is missing or no object."""
        run = (self.results or {}).get("run")
        return run if isinstance(run, dict) else {}

    def name(self, path: Path) -> str:
        """A path as people see it: below the root, without the root."""
        return path.relative_to(self.folder.root).as_posix() if path.is_relative_to(self.folder.root) else str(path)

    def say(self, sentence: str) -> None:
        """One more sentence of what is missing; the root's own path goes."""
        self.missing.append(sentence.replace(f"{self.folder.root}/", ""))

    def attempt(self, what: str, remedy: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """What `make` makes of a file's content, alone in a list; an empty list and a sentence if it cannot.

        A file may have the right format number and still be cut or edited: that must not cost the rest of the report.
        """
        try:
            return [make(*args, **kwargs)]
        except _UNUSABLE as error:
            if isinstance(error, UserError) and not isinstance(error, BadKey):
                self.say(f"{what} left out: {error}.")  # it names file and remedy
            else:
                self.say(f"{what} left out ({type(error).__name__}: {one_line(error)}): {remedy} anew.")
            return []


def find(root: str | Path) -> Found:
    """Read what is below the root.

    Raises: UserError when the root is no folder.
    """
    folder = RunFolder.of(root)
    if not folder.root.is_dir():
        raise UserError(f"{root}: no such folder; name a run's root folder with --root")
    found = Found(folder)
    found.results = _read_format(found, folder.results, RESULTS_FORMAT, EVALUATE)
    found.models, found.samples = join(_read_rows(found), found.say)
    _find_gates(found)
    found.frontier = _read_format(found, folder.frontier, FRONTIER_FORMAT, FRONTIER)
    _find_metrics(found)
    return found


def _read_format(found: Found, path: Path, version: int, remedy: str) -> dict[str, Any] | None:
    """A JSON object whose "format" is the one this version reads; anything else is said and None."""
    value = _read_object(found, path, remedy)
    if value is None or value.get("format") == version:
        return value
    stated = value.get("format", "without a number (an older version's)")
    found.say(f"{found.name(path)} is of format {stated}, and this version reads {version}: {remedy} anew.")
    return None


def _read_object(found: Found, path: Path, remedy: str) -> dict[str, Any] | None:
    if not path.is_file():
        found.say(f"{found.name(path)} is missing: {remedy}.")
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        found.say(f"{found.name(path)} is not JSON ({error}): {remedy} anew.")
        return None
    if isinstance(value, dict):
        return value
    found.say(f"{found.name(path)} holds no JSON object: {remedy} anew.")
    return None


def _read_rows(found: Found) -> dict[str, list[SampleRow]]:
    """The rows of every model's CSV that can be read, in the order in which models are shown."""
    rows = {}
    for name in _model_names(found):
        path = found.folder.samples(name)
        for lines in found.attempt(f"Samples of {name}", EVALUATE, read_samples, path):
            rows[name] = lines
            if lines and found.results:
                found.attempt("The models of results.json", EVALUATE, _say_another, found, name, lines)
            if not lines:
                found.say(f"{found.name(path)} holds no sample: {EVALUATE} anew.")
    return rows


def _say_another(found: Found, name: str, lines: list[SampleRow]) -> None:
    """Rows that results.json does not speak of: their number or their mean reward is another."""
    results = found.results or {}
    stated = results["models"].get(name, {}).get("reward", {}).get("mean")
    mean = sum(row.score_pred for row in lines) / len(lines)
    other = []
    if (posts := results.get("posts")) is not None and len(lines) != posts:
        other.append(f"{len(lines)} posts, not {posts}")
    if stated is not None and math.isfinite(mean) and not math.isclose(mean, stated, rel_tol=SAME, abs_tol=SAME):
        other.append(f"a mean reward of {mean:.4f}, not {stated:.4f}")
    if other:
        path = found.name(found.folder.samples(name))
        found.say(f"{path} is of another evaluation than results.json ({', '.join(other)}): {EVALUATE} anew.")


def _model_names(found: Found) -> list[str]:
    """The models of results.json, else those that have a CSV; trivial baselines have no samples worth reading."""
    there = found.folder.judged()
    known = found.attempt("The models of results.json", EVALUATE, _models_of, found.results) if found.results else []
    if not known:
        order = {"sft": 0, "ppo": 1}
        return sorted((name for name in there if name not in BASELINES), key=lambda name: (order.get(name, 2), name))
    models, everything = known[0]
    if strangers := [name for name in there if name not in everything]:
        found.say(f"Samples of {', '.join(strangers)} left out: results.json does not know them; {TOGETHER}.")
    return models


def _models_of(results: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the models, the baseline of the comparisons first; names of everything judged."""
    kinds = {name: about["kind"] for name, about in results["models"].items()}
    models = [name for name, kind in kinds.items() if kind == "model"]
    return sorted(models, key=lambda name: name != results["baseline"]), list(kinds)


def _find_gates(found: Found) -> None:
    """gate.json of both reward models; the second is only asked for where there is such a model."""
    second = found.folder.second_reward_model
    # The gate's own place-holder: a path of ours would hold only where it was written.
    named = f"--reward_model {{root}}/{found.name(second)}"
    places = {"reward_model": (found.folder.reward_model, GATE)}
    # It only judges; who trained it without a gate misses none.
    if second.is_dir() and ((second / GATE_FILE).exists() or not _was_told_no_gate(second)):
        places["second_reward_model"] = (
            second,
            f"`python -m reward_model.gate {named}` with the same --root writes it",
        )
    for key, (folder, remedy) in places.items():
        if gate := _read_gate(found, folder, remedy):
            found.gates[key] = gate


def _read_gate(found: Found, folder: Path, remedy: str) -> dict[str, Any] | None:
    path = found.name(folder / GATE_FILE)
    try:
        gate = read_gate(folder)
    except UserError as error:
        found.say(f"{error}.")
        return None
    if gate is None and _was_told_no_gate(folder):
        found.say(f"{path} is not there, as that training was asked for none (gate: null); if wanted, {remedy}.")
    elif gate is None:
        found.say(f"{path} is missing: {remedy}.")
    elif gate["model_digest"] != model_digest(folder):
        found.say(f"{path} judges another model than the one now in its folder: {remedy} anew.")
    return gate


def _was_told_no_gate(folder: Path) -> bool:
    """Whether the model's run.json holds `gate: null`."""
    try:
        options = json.loads((folder / "run.json").read_text(encoding="utf-8"))["options"]
        return options["gate"] is None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _find_metrics(found: Found) -> None:
    """metrics.jsonl of every stage, and what PPO's monitor wrote."""
    folders = {
        "sft": found.folder.sft,
        "reward_model": found.folder.reward_model,
        "second_reward_model": found.folder.second_reward_model,
        "rft": found.folder.rft_logs,
        "ppo": found.folder.ppo_logs,
    }
    for key, folder in folders.items():
        if key in ("second_reward_model", "rft") and not folder.is_dir():
            continue  # not every run has one
        if lines := _read_curve(found, key, folder):
            found.metrics[key] = lines
    if "ppo" in found.metrics:
        found.monitor = _read_format(found, found.folder.monitor, MONITOR_FORMAT, MONITOR)


def _read_curve(found: Found, key: str, folder: Path) -> list[dict[str, Any]]:
    stage, remedy = STAGE_NAMES[key], CURVES[key]
    path = found.name(folder / METRICS_FILE)
    try:
        lines = read_metrics(folder)
    except ValueError as error:
        found.say(f"Training curves of {stage}: {path} has a line that is not JSON ({error}): {remedy} anew.")
        return []
    if not lines:
        found.say(f"Training curves of {stage}: {path} is missing or empty: {remedy}.")
    return lines
