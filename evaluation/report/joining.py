"""The CSVs of several models become one list of posts, each with every model's summary.

Posts are matched by id. What does not fit is said in sentences, never guessed: ids twice, posts that a model lacks,
an id under which two models read different posts, scores that are no numbers, references that were scored differently.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from evaluation.report.data import Output, Sample
from evaluation.samples import SampleRow
from tasks.text import split_prompt, subreddit_of, title_of

Say = Callable[[str], None]
MOST_NAMED = 5  # ids in a sentence
TOGETHER = "evaluate all models in one call"
# Scores of one text by one model differ this much by batch and padding; by another model they differ more.
SAME_SCORE = 1e-2
_SCORES = {
    "reward": "score_pred",
    "second_reward": "second_pred",
    "gold": "gold_pred",
    "rouge1": "rouge1",
    "rouge2": "rouge2",
    "rougeL": "rougeL",
}
_REFERENCE_SCORES = {"reward": "score_truth", "second_reward": "second_truth", "gold": "gold_truth"}


def join(rows: Mapping[str, Sequence[SampleRow]], say: Say) -> tuple[list[str], list[Sample]]:
    """The models' names and the posts that all of them have, in the order of the first model.

    Args:
        rows: by model, in the order in which models are shown. say: takes a sentence about what does not fit.
    """
    by_model = {name: _by_id(name, lines, say) for name, lines in rows.items() if lines}
    if not by_model:
        return [], []
    _say_odd_numbers(by_model, say)
    ids = _same_posts(by_model, _common(by_model, say), say)
    _say_references(by_model, ids, say)
    return list(by_model), [_sample({name: lines[one] for name, lines in by_model.items()}) for one in ids]


def _by_id(name: str, lines: Sequence[SampleRow], say: Say) -> dict[str, SampleRow]:
    """The first row of every id."""
    twice = [one for one, count in Counter(row.id for row in lines).items() if count > 1]
    if twice:
        say(f"{name} has {_some(twice)} more than once: the first row of each is shown.")
    first: dict[str, SampleRow] = {}
    for row in lines:
        first.setdefault(row.id, row)
    return first


def _common(by_model: Mapping[str, dict[str, SampleRow]], say: Say) -> list[str]:
    every = dict.fromkeys(one for lines in by_model.values() for one in lines)  # a set that keeps its order
    for name, lines in by_model.items():
        if lacking := [one for one in every if one not in lines]:
            say(
                f"{name} lacks {len(lacking)} of {len(every)} posts ({_some(lacking)}), which are left out: {TOGETHER}."
            )
    return [one for one in every if all(one in lines for lines in by_model.values())]


def _same_posts(by_model: Mapping[str, dict[str, SampleRow]], ids: list[str], say: Say) -> list[str]:
    def same(one: str) -> bool:
        return len({(lines[one].post, lines[one].truth) for lines in by_model.values()}) == 1

    if odd := [one for one in ids if not same(one)]:
        say(f"Models read different posts or references under {_some(odd)}, which are left out: {TOGETHER}.")
    return [one for one in ids if same(one)]


def _say_odd_numbers(by_model: Mapping[str, dict[str, SampleRow]], say: Say) -> None:
    """Counts of NaN and infinities by model and column, with the posts where they are."""
    for name, lines in by_model.items():
        for column in (*_SCORES.values(), *_REFERENCE_SCORES.values()):
            if odd := [one for one, row in lines.items() if not _is_plain(getattr(row, column))]:
                say(
                    f"{name}: {len(odd)} of {len(lines)} values of {column} are not finite numbers "
                    f"({_some(odd)}); they are shown as empty. Look for an empty or very long text, and evaluate anew."
                )


def _say_references(by_model: Mapping[str, dict[str, SampleRow]], ids: list[str], say: Say) -> None:
    """The reference of a post has one score, whichever model's file it stands in."""
    first, *others = by_model
    for name in others:
        pairs = [(by_model[first][one].score_truth, by_model[name][one].score_truth) for one in ids]
        if any(abs(a - b) > SAME_SCORE for a, b in pairs if math.isfinite(a) and math.isfinite(b)):
            say(f"{name} and {first} were not scored by the same reward model, so do not compare them: {TOGETHER}.")


def _is_plain(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def _some(ids: Sequence[str]) -> str:
    named = ", ".join(f"'{one}'" for one in ids[:MOST_NAMED])
    more = f", ... {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"{'id' if len(ids) == 1 else 'ids'} {named}{more}"


def _sample(rows: Mapping[str, SampleRow]) -> Sample:
    first = next(iter(rows.values()))
    return Sample(
        id=first.id,
        subreddit=subreddit_of(first.post),
        title=title_of(first.post),
        post=split_prompt(first.post)[1].strip(),
        reference=first.truth,
        reference_scores=_scores(first, _REFERENCE_SCORES),
        outputs={name: _output(row) for name, row in rows.items()},
    )


def _output(row: SampleRow) -> Output:
    return Output(row.pred, _scores(row, _SCORES), row.ended, row.tokens, row.faults.split())


def _scores(row: SampleRow, columns: Mapping[str, str]) -> dict[str, float | None]:
    values = {name: getattr(row, column) for name, column in columns.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items() if value is not None}
