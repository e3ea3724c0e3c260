"""The checks of the release gate: what was measured on a reward model, held against the thresholds.

Pure: scores and texts in, checks and what `gate.json` tells besides out. Left out: where scores and texts come from
(`reward_model.gate`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.statistics import Interval
from reward_model.accuracy import GROUPS, agreement, proportion_interval, right_by
from reward_model.by_post import difference_by_post, share_by_post
from reward_model.calibration import Calibration, calibrate
from reward_model.invariance import BATCH_SIZES, Invariance
from reward_model.length_bias import by_length_difference, length_only, longer_wins, words
from reward_model.pairs import PairText
from reward_model.stress import EDITS
from reward_model.thresholds import Thresholds
from reward_model.verdict import Check, Rule, Status
from trlx.utils.errors import UserError

# Of `gate.json`, besides the checks.
SECTIONS = ("accuracy", "calibration", "baselines", "stress", "invariance")
_NOTHING: dict[str, Any] = {name: [] if name == "stress" else {} for name in SECTIONS}


@dataclass(frozen=True)
class Evidence:
    """What is known of a reward model.

    Args:
        pairs, chosen, rejected: the test pairs, and the scores of both their sides.
        stress: edit → 1, 0.5 or 0 for each reference that it changed: whether the untouched one scores higher.
        invariance: None where there were too few texts.
        trained_on: share of the test posts that were trained on; None where that is not known.
    """

    pairs: Sequence[PairText]
    chosen: Sequence[float]
    rejected: Sequence[float]
    stress: Mapping[str, Sequence[float]]
    invariance: Invariance | None
    trained_on: float | None

    @property
    def values(self) -> list[float]:
        """Every number that came from a score."""
        gaps = [] if self.invariance is None else [self.invariance.padding, self.invariance.batch_size]
        return [*self.chosen, *self.rejected, *(value for edit in self.stress.values() for value in edit), *gaps]


def run_checks(evidence: Evidence, thresholds: Thresholds) -> tuple[list[Check], dict[str, Any]]:
    """Every check; and `SECTIONS` of `gate.json`.

    A score that is not a number fails by itself, and nothing else is judged: the sections are then empty.

    Raises: UserError where there are no pairs.
    """
    if not evidence.pairs:
        raise UserError("no test pairs to judge the reward model on: name others (--data of the gate, or its --split)")
    values = evidence.values
    bad = sum(not math.isfinite(value) for value in values)
    finite = _limit("finite_scores", "scores that are not a finite number", float(bad), len(values), 0.0)
    if bad:
        return [finite], dict(_NOTHING)
    accuracy, told_accuracy = _accuracy(evidence, thresholds)
    baselines, told_baselines = _baselines(evidence, thresholds)
    calibration, told_calibration = _calibration(evidence, thresholds)
    stress, told_stress = _stress(evidence, thresholds)
    invariance, told_invariance = _invariance(evidence, thresholds)
    posts = len({pair.prompt for pair in evidence.pairs})
    why = "" if evidence.trained_on is not None else "the model came without training_posts.npy"
    trained_on = _limit(
        "trained_on", "share of test posts trained on", evidence.trained_on, posts, thresholds.trained_on, why=why
    )
    checks = [*accuracy, *baselines, *calibration, *stress, *invariance, trained_on, finite]
    checks = [_insist(one) if one.name in thresholds.required else one for one in checks]
    told = (told_accuracy, told_calibration, told_baselines, told_stress, told_invariance)
    return checks, dict(zip(SECTIONS, told, strict=True))


def _accuracy(evidence: Evidence, limits: Thresholds) -> tuple[list[Check], dict[str, Any]]:
    pairs = evidence.pairs
    right = agreement(evidence.chosen, evidence.rejected)
    posts = [pair.prompt for pair in pairs]
    shorter = [number for number, pair in enumerate(pairs) if words(pair.chosen) < words(pair.rejected)]
    overall = share_by_post(right, posts)
    hard_posts = [posts[n] for n in shorter]
    hard = share_by_post([right[n] for n in shorter], hard_posts) if shorter else None
    about = "pairs whose preferred side scores higher"
    checks = [
        _floor("accuracy", about, overall, limits.accuracy, limits.min_pairs, _too_few_posts(posts, limits)),
        _floor(
            "accuracy_shorter_better",
            "the same where the shorter side is preferred",
            hard,
            limits.accuracy_shorter_better,
            limits.min_pairs,
            _too_few_posts(hard_posts, limits),
        ),
    ]
    buckets = by_length_difference([pair.chosen for pair in pairs], [pair.rejected for pair in pairs], right)
    told = {
        "accuracy": dataclasses.asdict(overall),
        "by_length_difference": [
            {"from": one.low, "to": one.high, "pairs": len(one.right), "accuracy": _wilson(one.right)}
            for one in buckets
        ],
        "by": {group: table for group in GROUPS if (table := _by(pairs, right, group))},
    }
    return checks, told


def _too_few_posts(posts: Sequence[str], limits: Thresholds) -> str:
    """Why pairs of these posts say too little, however many they are; empty where they do not."""
    count = len(set(posts))
    return "" if count >= limits.min_posts else f"of the {limits.min_posts} posts that are needed there are {count}"


def _by(pairs: Sequence[PairText], right: Sequence[float], column: str) -> dict[str, dict[str, Any]]:
    groups = right_by(pairs, right, column)
    return {value: {"pairs": len(hits), "accuracy": _wilson(hits)} for value, hits in groups.items()}


def _wilson(right: Sequence[float]) -> dict[str, Any]:
    low, high = proportion_interval(sum(right), len(right))
    return dataclasses.asdict(Interval(sum(right) / len(right), low, high, len(right)))


def _baselines(evidence: Evidence, limits: Thresholds) -> tuple[list[Check], dict[str, Any]]:
    posts = [pair.prompt for pair in evidence.pairs]
    sides = [pair.chosen for pair in evidence.pairs], [pair.rejected for pair in evidence.pairs]
    right = agreement(evidence.chosen, evidence.rejected)
    found = {"longer_wins": longer_wins(*sides), "length_only": length_only(*sides, posts)}
    names = {"longer_wins": '"the longer one wins"', "length_only": "a regression on the lengths"}
    checks = [
        _floor(
            f"beats_{name}",
            f"accuracy minus that of {names[name]}",
            None if baseline is None else difference_by_post(right, baseline, posts),
            getattr(limits, f"beats_{name}"),
            limits.min_pairs,
            _too_few_posts(posts, limits),
            rule=">",
        )
        for name, baseline in found.items()
    ]
    told = {
        name: None if baseline is None else dataclasses.asdict(share_by_post(baseline, posts))
        for name, baseline in found.items()
    }
    return checks, told


def _calibration(evidence: Evidence, limits: Thresholds) -> tuple[list[Check], dict[str, Any]]:
    found: Calibration = calibrate(evidence.chosen, evidence.rejected)
    about = "expected calibration error of sigma(score difference)"
    few = _too_few_posts([pair.prompt for pair in evidence.pairs], limits)
    check = _limit("ece", about, found.ece, len(evidence.pairs), limits.ece, limits.min_pairs, few=few)
    return [check], dataclasses.asdict(found)


def _stress(evidence: Evidence, limits: Thresholds) -> tuple[list[Check], list[dict[str, Any]]]:
    checks, told = [], []
    for name, edit in EDITS.items():
        outcomes = evidence.stress[name]
        interval = share_by_post(outcomes, range(len(outcomes))) if outcomes else None
        about = f"references preferred to {edit.about}"
        checks.append(_floor(f"stress.{name}", about, interval, getattr(limits.stress, name), limits.min_posts))
        shown = None if interval is None else dataclasses.asdict(interval)
        told.append({"name": name, "about": edit.about, "prefers_reference": shown, "n": len(outcomes)})
    return checks, told


def _invariance(evidence: Evidence, limits: Thresholds) -> tuple[list[Check], dict[str, Any]]:
    found = evidence.invariance
    abouts = {
        "padding": "largest change of a score beside a longer text",
        "batch_size": f"largest change of a score in batches of {', '.join(map(str, BATCH_SIZES))}",
    }
    values = {name: None if found is None else float(getattr(found, name)) for name in abouts}
    texts = 0 if found is None else found.texts
    why = "fewer than 2 texts" if found is None else ""
    checks = [
        _limit(name, about, values[name], texts, getattr(limits, name), why=why) for name, about in abouts.items()
    ]
    return checks, {**values, "texts": texts}


def _insist(check: Check) -> Check:
    """A required check, which fails where it was not judged."""
    if check.status != "not judged":
        return check
    return dataclasses.replace(check, status="fail", why=f"required, and cannot be judged: {check.why}")


def _floor(
    name: str,
    about: str,
    interval: Interval | None,
    threshold: float | None,
    least: int,
    few: str = "",
    rule: Rule = ">=",
) -> Check:
    """A value that must be large; with the rule `>` it is the low end of its interval."""
    found = Interval(math.nan, None, None, 0) if interval is None else interval
    return _check(name, about, found, threshold, rule, least, few=few)


def _limit(
    name: str,
    about: str,
    value: float | None,
    n: int,
    threshold: float | None,
    least: int = 0,
    why: str = "",
    few: str = "",
) -> Check:
    """A value that must be small; it has no interval."""
    found = Interval(math.nan if value is None else value, None, None, n)
    return _check(name, about, found, threshold, "<=", least, why, few)


def _check(
    name: str,
    about: str,
    found: Interval,
    threshold: float | None,
    rule: Rule,
    least: int,
    why: str = "",
    few: str = "",
) -> Check:
    """`least`: of `found.n`. `why`, `few`: why it cannot be judged at all, and on so few posts; empty where it can."""
    value = None if math.isnan(found.mean) else found.mean
    held = found.low if rule == ">" else value
    if threshold is None:
        why = why or "no threshold is set"
    elif found.n < least:
        why = why or f"of the {least} that are needed there are {found.n}"
    elif few:
        why = why or few
    elif held is None:
        why = why or "nothing to measure it on"
    if why or held is None or threshold is None:
        return Check(name, about, value, found.low, found.high, found.n, threshold, rule, "not judged", why)
    passes = {">=": held >= threshold, "<=": held <= threshold, ">": held > threshold}[rule]
    status: Status = "pass" if passes else "fail"
    return Check(name, about, value, found.low, found.high, found.n, threshold, rule, status)
