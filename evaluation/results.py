"""From per-sample outcomes to the numbers of the tables: what `results.json` holds.

An `Outcome` keeps one value a post for everything measured; `summarise` turns outcomes into means with intervals.
Left out: reading the file back into these classes (the report shows the tables that the JSON carries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.degeneration import Faults, fault_shares
from evaluation.kl import SequenceKL
from evaluation.rouge_scores import ROUGE_TYPES, USE_AGGREGATOR, rouge_average
from evaluation.statistics import (
    LEVEL,
    SEED,
    Difference,
    Interval,
    compare_all,
    differences,
    mean_interval,
    mean_intervals,
)
from evaluation.win_rates import Preference, Side, by_score, preferences

FORMAT = 2  # of results.json


@dataclass(frozen=True)
class References:
    """The ground truth's scores on n posts; None without a second reward model, and where the task has no gold."""

    texts: list[str]
    rewards: list[float]
    second: list[float] | None = None
    gold: list[float] | None = None


@dataclass
class Outcome:
    """What one summarizer did on n posts, one entry a post in every list."""

    name: str
    path: str  # of a model; empty for a baseline
    kind: str  # "model" or "baseline"
    predictions: list[str]  # as written, without outer white space and EOS
    ended: list[bool]  # True = EOS within the limit
    tokens: list[int]  # response tokens, EOS included
    rewards: list[float]
    rouge: dict[str, list[float]]  # F1 by type, no stemmer
    rouge_stemmed: dict[str, list[float]]
    faults: list[Faults]
    second: list[float] | None = None  # rewards of the second reward model
    gold: list[float] | None = None
    kl: SequenceKL | None = None  # to the baseline
    about: dict[str, Any] = field(default_factory=dict)  # size, config, seconds


@dataclass(frozen=True)
class ModelSummary:
    """Means of one summarizer with their intervals; *_delta are against the ground truth, post by post."""

    name: str
    path: str
    kind: str
    rouge1: Interval
    rouge2: Interval
    rougeL: Interval
    rouge_average: Interval
    rouge_stemmed: dict[str, Interval]
    reward: Interval
    reward_delta: Interval
    second_reward: Interval | None
    second_reward_delta: Interval | None
    gold: Interval | None
    gold_delta: Interval | None
    kl: SequenceKL | None
    response_tokens: Interval
    share_without_eos: float
    faults: dict[str, Interval]  # share of the summaries that have each
    about: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything the tables show. `differences[model][measure]` is model − baseline, paired by post."""

    posts: int
    ground_truth_reward: Interval
    ground_truth_second: Interval | None
    ground_truth_gold: Interval | None
    models: list[ModelSummary]
    baseline: str
    differences: dict[str, dict[str, Difference]]
    preferences: list[Preference]
    run: dict[str, Any]  # task, data, split, decoding, devices, versions, seeds
    reward_model: dict[str, Any]
    second_reward_model: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; models keyed by name."""
        plain: dict[str, Any] = {"format": FORMAT} | asdict(self)
        plain["models"] = {model.pop("name"): model for model in plain["models"]}
        plain["intervals"] = {
            "level": LEVEL,
            "method": "percentile bootstrap over posts",
            "resamples": self.run.get("resamples"),
            "seed": SEED,
        }
        plain["rouge"] = {"value": "F1", "use_stemmer": "rouge_stemmed only", "use_aggregator": USE_AGGREGATOR}
        return plain


def summarise(
    references: References,
    outcomes: Sequence[Outcome],
    baseline: str,
    resamples: int,
    run: dict[str, Any],
    reward_model: dict[str, Any],
    second_reward_model: dict[str, Any],
) -> Results:
    """Means, intervals, and each model's paired differences from the model called `baseline`.

    Every list of every outcome must be in the order of the same posts.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    compared = [one for one in outcomes if one.kind == "model" and baseline in by_name and one.name != baseline]
    return Results(
        posts=len(references.rewards),
        ground_truth_reward=mean_interval(references.rewards, resamples=resamples),
        ground_truth_second=_maybe_mean(references.second, resamples),
        ground_truth_gold=_maybe_mean(references.gold, resamples),
        models=[_summary(outcome, references, resamples) for outcome in outcomes],
        baseline=baseline,
        differences={
            one.name: compare_all(measures(one), measures(by_name[baseline]), resamples=resamples) for one in compared
        },
        preferences=_preferences(references, outcomes, by_name.get(baseline)),
        run=run,
        reward_model=reward_model,
        second_reward_model=second_reward_model,
    )


def _preferences(references: References, outcomes: Sequence[Outcome], baseline: Outcome | None) -> list[Preference]:
    """Everyone against the references, and the other models against the baseline."""
    sides = [_side(outcome) for outcome in outcomes]
    models = [outcome.name for outcome in outcomes if outcome.kind == "model"]
    scores = _by_judge(references.rewards, references.second, references.gold)
    truth = Side("reference", scores, references.texts, [True] * len(references.texts))
    found = preferences(by_score(sides, truth), sides, truth, models)
    if baseline is None:
        return found
    others, first = [side for side in sides if side.name in models and side.name != baseline.name], _side(baseline)
    return found + preferences(by_score(others, first), others, first, models)


def _side(outcome: Outcome) -> Side:
    scores = _by_judge(outcome.rewards, outcome.second, outcome.gold)
    return Side(outcome.name, scores, outcome.predictions, outcome.ended)


def _by_judge(
    rewards: Sequence[float], second: Sequence[float] | None, gold: Sequence[float] | None
) -> dict[str, Sequence[float]]:
    known = {"reward model": rewards, "second reward model": second, "gold": gold}
    return {judge: scores for judge, scores in known.items() if scores is not None}


def _maybe_mean(values: Sequence[float] | None, resamples: int) -> Interval | None:
    return None if values is None else mean_interval(values, resamples=resamples)


def _summary(outcome: Outcome, references: References, resamples: int) -> ModelSummary:
    # One call, so that the posts are drawn once for all columns.
    columns = {**measures(outcome), **_deltas(outcome, references)}
    columns |= {f"{name}_stemmed": values for name, values in outcome.rouge_stemmed.items()}
    means = mean_intervals(columns, resamples=resamples)
    return ModelSummary(
        name=outcome.name,
        path=outcome.path,
        kind=outcome.kind,
        rouge1=means["rouge1"],
        rouge2=means["rouge2"],
        rougeL=means["rougeL"],
        rouge_average=means["rouge_average"],
        rouge_stemmed={name: means[f"{name}_stemmed"] for name in outcome.rouge_stemmed},
        reward=means["reward"],
        reward_delta=means["reward_delta"],
        second_reward=means.get("second_reward"),
        second_reward_delta=means.get("second_reward_delta"),
        gold=means.get("gold"),
        gold_delta=means.get("gold_delta"),
        kl=outcome.kl,
        response_tokens=means["response_tokens"],
        share_without_eos=1.0 - sum(outcome.ended) / len(outcome.ended),
        faults=fault_shares(outcome.faults),
        about=outcome.about,
    )


def _deltas(outcome: Outcome, references: References) -> dict[str, Sequence[float]]:
    """What each score is above the reference's, post by post."""
    known = {
        "reward_delta": (outcome.rewards, references.rewards),
        "second_reward_delta": (outcome.second, references.second),
        "gold_delta": (outcome.gold, references.gold),
    }
    return {name: differences(a, b) for name, (a, b) in known.items() if a is not None and b is not None}


def measures(outcome: Outcome) -> dict[str, Sequence[float]]:
    """Everything that is measured post by post, by name, in the order of the tables."""
    found: dict[str, Sequence[float]] = {"reward": outcome.rewards}
    if outcome.second is not None:
        found["second_reward"] = outcome.second
    if outcome.gold is not None:
        found["gold"] = outcome.gold
    found.update({name: outcome.rouge[name] for name in ROUGE_TYPES})
    found["rouge_average"] = rouge_average(outcome.rouge)
    found.update({f"{name}_stemmed": outcome.rouge_stemmed[name] for name in ROUGE_TYPES})
    found["response_tokens"] = outcome.tokens
    return found
