"""Before and after: how a policy's continuations were judged, by the kind of prompt, with 95% intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.statistics import Interval, mean_interval, proportion
from evaluation.table import Table, number
from examples.sentiment_steering.rewards import GOALS, Score


@dataclass(frozen=True)
class Judged:
    """Samples from prompts of one kind, and what they were given.

    Args:
        prompts, outputs: texts; a sample is a prompt and its output. scores: of samples, by the reward's judge.
        second: of outputs alone, by a judge that no reward comes from; None where there is none.
    """

    prompts: Sequence[str]
    outputs: Sequence[str]
    scores: Sequence[float]
    second: Sequence[float] | None


def judge_outputs(prompts: Sequence[str], outputs: Sequence[str], score: Score, second: Score | None) -> Judged:
    """Samples judged by both."""
    samples = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
    return Judged(prompts, outputs, score(samples), second(outputs) if second else None)


def share(scores: Sequence[float]) -> Interval:
    """How many of the scores are above one half, with Wilson's interval."""
    return proportion(sum(score > 0.5 for score in scores), len(scores))


def before_after(goal: str, label: str, before: Mapping[str, Judged], after: Mapping[str, Judged]) -> Table:
    """Two rows for each kind of prompt.

    Args:
        goal: of `rewards.GOALS`. label: what the judge was asked for.
        before, after: kind of prompt → what was judged. Their keys are the same.
    """
    pairs = [(kind, when, judged[kind]) for kind in before for when, judged in (("before", before), ("after", after))]
    has_second = all(judged.second is not None for _, _, judged in pairs)
    rows = []
    for kind, when, judged in pairs:
        cells = [share(judged.scores), mean_interval(judged.scores)]
        cells.append(mean_interval([GOALS[goal](p) for p in judged.scores]))
        cells += [share(judged.second or []) for _ in range(has_second)]
        rows.append([f"{kind}, {when}", *(number(cell, digits=2) for cell in cells)])
    caption = f"Share of samples judged {label} (p > .5), mean p, mean reward; {len(judged.scores)} samples a row."
    if has_second:
        caption += " The second judge, of which no reward comes, reads the continuations alone."
    header = ["Prompts", label, "p", "Reward", *["Second judge"] * has_second]
    return Table(f"Steered to be {goal}", header, rows, caption + " [95% interval]")


def examples(before: Mapping[str, Judged], after: Mapping[str, Judged], count: int = 2) -> list[str]:
    """Lines that show how the first prompts of each kind, unpicked, went on before and after."""
    lines = []
    for kind in before:
        for i in range(min(count, len(before[kind].prompts))):
            lines.append(f"{kind} prompt: {before[kind].prompts[i]}")
            for when, judged in (("before", before[kind]), ("after", after[kind])):
                lines.append(f"    {when} ({judged.scores[i]:.2f}): {' '.join(judged.outputs[i].split())}")
    return lines
