"""One run's results.json as the list of seeds needs it: read, checked, and compared with another run's.

Left out: reading it back into `evaluation.results.Results`; only what is listed is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.results import FORMAT
from evaluation.samples import read_samples
from evaluation.statistics import Interval
from tasks.run_folder import RunFolder
from trlx.utils.errors import UserError

REMEDY = "trlx_inference_gptneo.py with the same --root writes it anew"
# What is looked at → its type.
_READ: dict[str, type] = {
    "models": dict,
    "differences": dict,
    "preferences": list,
    "baseline": str,
    "posts": int,
    "run": dict,
}
_TYPE_NAMES = {dict: "object", list: "list", str: "text", int: "whole number"}
_OF_OBJECTS = ("models", "differences", "preferences")
# What must agree for two runs' numbers to stand under each other → how it is called. Not "data": a seed may draw its
# own, each below its root under the same name; `shared_posts` looks at the posts themselves.
_SAME = {
    "task": "task",
    "split": "split",
    "decoding": "decoding",
    "max_prompt_tokens": "longest prompt",
    "dtype": "policies in",
    "reward_dtype": "reward models in",
}


@dataclass(frozen=True)
class RunResults:
    """A run: its root as it was given, and its results.json."""

    root: str
    results: Mapping[str, Any]

    @property
    def folder(self) -> RunFolder:
        """Its paths."""
        return RunFolder.of(self.root)

    def model(self, name: str) -> Mapping[str, Any] | None:
        """What was measured of a model; None where it was not judged."""
        return self.results["models"].get(name)

    def difference(self, model: str, measure: str) -> tuple[Interval | None, float | None]:
        """Model − baseline, and p."""
        found = self.results["differences"].get(model, {}).get(measure)
        return interval(found), None if found is None else found.get("p")

    def win_rate(self, model: str, judge: str, against: str) -> Mapping[str, Any] | None:
        """One row of the preferences."""
        for one in self.results["preferences"]:
            if (one["model"], one["judge"], one["against"]) == (model, judge, against):
                return one
        return None


def interval(value: Mapping[str, Any] | None) -> Interval | None:
    """An interval as JSON has it; None stays None."""
    return None if value is None else Interval(value["mean"], value["low"], value["high"], value["n"])


def read_results(root: str) -> RunResults:
    """The results of one run.

    Raises: UserError where there are none, or they are broken or of another version, naming the file and what to do.
    """
    if not Path(root).is_dir():
        raise UserError(f"{root}: no such folder; give the root folders of runs, as in `seeds runs/a runs/b`")
    path = RunFolder.of(root).results
    shown = Path(root) / path.name
    if not path.is_file():
        raise UserError(f"{shown}: no such file; {REMEDY}")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{shown}: not JSON ({error}); {REMEDY}") from error
    found = results.get("format", "1 or none") if isinstance(results, dict) else None
    if found != FORMAT:
        raise UserError(f"{shown}: is of format {found} where {FORMAT} is read; {REMEDY}")
    _require_types(results, shown)
    return RunResults(root, results)


def _require_types(results: Mapping[str, Any], shown: Path) -> None:
    if missing := [key for key in _READ if key not in results]:
        raise UserError(f"{shown}: has no {', '.join(missing)}; {REMEDY}")
    for key, kind in _READ.items():
        if not isinstance(results[key], kind):
            raise UserError(f"{shown}: '{key}' is no {_TYPE_NAMES[kind]}; {REMEDY}")
    for key in _OF_OBJECTS:
        entries = results[key].values() if _READ[key] is dict else results[key]
        if not all(isinstance(one, dict) for one in entries):
            raise UserError(f"{shown}: '{key}' holds something else than objects; {REMEDY}")


def unlike(first: RunResults, other: RunResults) -> list[str]:
    """Why the numbers of two runs cannot be compared, in words; empty where they can."""
    ours, theirs = first.results["run"], other.results["run"]
    reasons = [
        f"{words} {_shown(theirs.get(key))}, not {_shown(ours.get(key))}"
        for key, words in _SAME.items()
        if ours.get(key) != theirs.get(key)
    ]
    if first.results["baseline"] != other.results["baseline"]:
        reasons.append(f"compared with {other.results['baseline']}, not {first.results['baseline']}")
    if first.results["posts"] != other.results["posts"]:
        reasons.append(f"{other.results['posts']} posts, not {first.results['posts']}")
    return reasons


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else f"'{value}'"


def shared_posts(first: RunResults, other: RunResults) -> tuple[int, int] | None:
    """How many of the first run's posts the other was judged on, and how many there are; None where not known."""
    ours, theirs = _posts(first), _posts(other)
    return None if ours is None or theirs is None else (len(ours & theirs), len(ours))


def _posts(run: RunResults) -> set[tuple[str, str]] | None:
    """Id and reference of every post, from the baseline's CSV; None where that cannot be read."""
    try:
        rows = read_samples(run.folder.samples(run.results["baseline"]))
    except UserError:
        return None
    return {(row.id, row.truth) for row in rows}
