"""Each worry appears when its number is past its limit, and not before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.inspection.duplicates import Overlap, Shared
from tasks.inspection.findings import findings
from tasks.inspection.near import Near
from tasks.inspection.report import BadReason, Column, Fit, Report, Rollouts, SplitReport

GOOD = SplitReport(
    name="train",
    rows=200,
    usable=200,
    format="pairs",
    files={"a.jsonl": 150, "b.jsonl": 50},
    columns={"prompt": Column(200, 10, True), "url": Column(1, 1, False)},
    dropped={"identical": 10, "short": 10},
    facets={"confidence": {"8": 100, "9": 100}},
    chosen_longer=0.6,
    fit=Fit(550, 200, 10, 3.0, 0, ""),
    rollouts=Rollouts(500, 50, 10, 10),
)


def told(split: SplitReport, **fields: Any) -> list[str]:
    return [finding.what for finding in findings(Report("data", "pairs", "tokens", (split,), **fields))]


def test_nothing_at_the_limits() -> None:
    assert told(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bad": (BadReason("'label' is empty", 3, "x, line 1", "mend"),)}, "3 rows of 200 cannot be used"),
        ({"dropped": {"identical": 10, "short": 11}}, "10.5% of the pairs are dropped"),
        ({"usable": 99}, "only 99 usable rows"),
        ({"columns": {"prompt": Column(195, 6, True)}}, "'prompt' is empty or absent in 5.5%"),
        ({"foreign_prompts": 1}, "0.5% of the prompts have neither"),
        ({"fit": Fit(550, 200, 11, 3.0, 0, "")}, "5.5% of the prompts are cut at 550"),
        ({"fit": Fit(550, 200, 0, 0.0, 1, "x, line 4")}, "1 row cannot fit into 550 tokens, first x, line 4"),
        ({"rollouts": Rollouts(500, 50, 11, 0)}, "PPO cuts 5.5% of the prompts, which get 500"),
        ({"rollouts": Rollouts(500, 50, 0, 11)}, "5.5% of the references are longer than 50 tokens"),
        ({"chosen_longer": 0.61}, "the longer one in 61% of the pairs"),
        ({"chosen_longer": 0.39}, "the shorter one in 61% of the pairs"),
        ({"facets": {"confidence": {"9": 200}}}, "every pair has the same confidence"),
    ],
)
def test_one_split(change: dict[str, Any], words: str) -> None:
    (what,) = told(replace(GOOD, **change))
    assert what.startswith("train: ") and words in what


def test_a_confidence_that_most_pairs_lack_is_no_worry() -> None:
    assert told(replace(GOOD, facets={"confidence": {"9": 1}})) == []


def test_leakage_comes_first() -> None:
    shared = Shared("train", "test", 7, (("a.jsonl, line 1", "b.jsonl, line 2"),))
    posts = Overlap("post", {"train": 100, "test": 100}, {"train": 0, "test": 0}, (shared,))
    first, second, *_ = told(
        replace(GOOD, usable=1), overlaps=(posts,), near=(Near("train", "test", 1, ()), Near("a", "b", 0, ()))
    )
    assert first == "leakage: 7 posts of 'test' also in 'train', e.g. b.jsonl, line 2 and a.jsonl, line 1"
    assert second == "leakage: 1 post of 'test' nearly the same as one of 'train'"


def test_repetition() -> None:
    pairs = Overlap("pair", {"train": 200}, {"train": 3}, ())
    posts = Overlap("post", {"train": 200}, {"train": 150}, ())
    assert told(GOOD, overlaps=(posts, pairs)) == ["train: 1.5% of the rows repeat an earlier row's pair"]
    assert told(GOOD, overlaps=(replace(pairs, repeated={"train": 2}),)) == []
    report = Report("data", "posts", "tokens", (GOOD,), (posts,))
    assert [finding.what for finding in findings(report)] == ["train: 75.0% of the rows repeat an earlier row's post"]
    assert told(GOOD, contradictions={"train": 2}) == ["train: 2 pairs preferred both ways round"]
