"""From per-sample outcomes to the numbers of the tables: what `results.json` holds.

An `Outcome` keeps one value a post for everything measured; `summarise` turns outcomes into means with intervals.
Left out: reading the file back into these classes (a report reads the JSON).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evaluation.kl import SequenceKL
from evaluation.rouge_scores import ROUGE_TYPES, USE_AGGREGATOR, USE_STEMMER, rouge_average
from evaluation.statistics import LEVEL, SEED, Interval, mean_interval, paired_difference


@dataclass(frozen=True)
class References:
    """The ground truth's scores on n posts; gold is None where the task has no gold score."""

    rewards: list[float]
    gold: list[float] | None = None


@dataclass
class Outcome:
    """What one model did on n posts, one entry a post in every list."""

    name: str
    path: str
    predictions: list[str]  # as written, without outer white space and EOS
    ended: list[bool]  # True = EOS within the limit
    tokens: list[int]  # response tokens, EOS included
    rewards: list[float]
    rouge: dict[str, list[float]]
    gold: list[float] | None = None
    kl: SequenceKL | None = None  # to the baseline
    about: dict[str, Any] = field(default_factory=dict)  # size, config, seconds


@dataclass(frozen=True)
class ModelSummary:
    """Means of one model with their intervals; reward_delta is against the ground truth, post by post."""

    name: str
    path: str
    rouge1: Interval
    rouge2: Interval
    rougeL: Interval
    rouge_average: Interval
    reward: Interval
    reward_delta: Interval
    gold: Interval | None
    gold_delta: Interval | None
    kl: SequenceKL | None
    response_tokens: Interval
    share_without_eos: float
    about: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything the tables show. `differences[model][measure]` is model − baseline, paired by post."""

    posts: int
    ground_truth_reward: Interval
    ground_truth_gold: Interval | None
    models: list[ModelSummary]
    baseline: str
    differences: dict[str, dict[str, Interval]]
    run: dict[str, Any]  # task, data, split, decoding, devices, versions, seeds
    reward_model: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; models keyed by name."""
        plain = asdict(self)
        plain["models"] = {model.pop("name"): model for model in plain["models"]}
        plain["intervals"] = {
            "level": LEVEL,
            "method": "percentile bootstrap over posts",
            "resamples": self.run.get("resamples"),
            "seed": SEED,
        }
        plain["rouge"] = {"value": "F1", "use_stemmer": USE_STEMMER, "use_aggregator": USE_AGGREGATOR}
        return plain


def summarise(
    references: References,
    outcomes: Sequence[Outcome],
    baseline: str,
    resamples: int,
    run: dict[str, Any],
    reward_model: dict[str, Any],
) -> Results:
    """Means, intervals, and each model's paired differences from the model called `baseline`.

    Every list of every outcome must be in the order of the same posts.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    return Results(
        posts=len(references.rewards),
        ground_truth_reward=mean_interval(references.rewards, resamples=resamples),
        ground_truth_gold=_maybe_mean(references.gold, resamples),
        models=[_summary(outcome, references, resamples) for outcome in outcomes],
        baseline=baseline,
        differences={
            outcome.name: _differences(outcome, by_name[baseline], resamples)
            for outcome in outcomes
            if baseline in by_name and outcome.name != baseline
        },
        run=run,
        reward_model=reward_model,
    )


def _maybe_mean(values: list[float] | None, resamples: int) -> Interval | None:
    return None if values is None else mean_interval(values, resamples=resamples)


def _summary(outcome: Outcome, references: References, resamples: int) -> ModelSummary:
    rouge = {name: mean_interval(outcome.rouge[name], resamples=resamples) for name in ROUGE_TYPES}
    has_gold = outcome.gold is not None and references.gold is not None
    return ModelSummary(
        name=outcome.name,
        path=outcome.path,
        **rouge,
        rouge_average=mean_interval(rouge_average(outcome.rouge), resamples=resamples),
        reward=mean_interval(outcome.rewards, resamples=resamples),
        reward_delta=paired_difference(outcome.rewards, references.rewards, resamples=resamples),
        gold=_maybe_mean(outcome.gold, resamples),
        gold_delta=paired_difference(outcome.gold or [], references.gold or [], resamples=resamples)
        if has_gold
        else None,
        kl=outcome.kl,
        response_tokens=mean_interval(outcome.tokens, resamples=resamples),
        share_without_eos=1.0 - sum(outcome.ended) / len(outcome.ended),
        about=outcome.about,
    )


def measures(outcome: Outcome) -> dict[str, Sequence[float]]:
    """Everything that is measured post by post, by name, in the order of the tables."""
    found: dict[str, Sequence[float]] = {"reward": outcome.rewards}
    if outcome.gold is not None:
        found["gold"] = outcome.gold
    found.update({name: outcome.rouge[name] for name in ROUGE_TYPES})
    found["rouge_average"] = rouge_average(outcome.rouge)
    found["response_tokens"] = outcome.tokens
    return found


def _differences(outcome: Outcome, baseline: Outcome, resamples: int) -> dict[str, Interval]:
    theirs = measures(baseline)
    return {
        name: paired_difference(values, theirs[name], resamples=resamples)
        for name, values in measures(outcome).items()
        if name in theirs
    }
