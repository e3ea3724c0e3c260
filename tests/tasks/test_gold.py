from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.gold import coverage, form_faults, gold_score, invented
from tasks.miniature_situations import situations
from tasks.miniature_text import DETAILS, draw, perfect_summary, ramble, with_wrong_value, write_post, write_summary

FACTS = [
    {"name": "event", "text": "crashed my car"},
    {"name": "wish", "text": "fix it cheaply"},
    {"name": "person", "text": "sister"},
    {"name": "place", "text": "Denver"},
    {"name": "time", "text": "three weeks"},
]


# Worked by hand from the formula: coverage − 0.25·invented − 0.04·(words − 30) − 0.1·faults of form.
@pytest.mark.parametrize(
    "text, ended, score",
    [
        ("My sister crashed my car in Denver three weeks ago and I want to fix it cheaply.", True, 1.0),
        (" My sister crashed my car in Denver three weeks ago and I want to fix it cheaply.", True, 1.0),
        ("My sister crashed my car in Denver three weeks ago and I want to fix it cheaply.", False, 0.9),
        ("My sister crashed my car.", True, 0.4),  # 2 of 5 facts
        ("my sister crashed my car", True, 0.2),  # no capital, no full stop
        ("My brother crashed my car in Boston two months ago, it cost me $40.", True, -0.55),  # 1/5 − 3·0.25
        ("My sister crashed my car. My sister crashed my car.", True, 0.3),  # a repetition
        ("My sister crashed my car. " + "Really. " * 30, True, 0.1),  # 2/5 − 5 words over − repetition
        ("", True, -0.2),
        ("", False, -0.3),
        ("Sisterhood crashed my cars in Denverton.", True, 0.0),  # whole words only
    ],
)
def test_gold_score_by_hand(text: str, ended: bool, score: float) -> None:
    assert gold_score(FACTS, text, ended) == pytest.approx(score)


def test_invented_values_are_those_of_the_vocabulary_that_the_post_lacks() -> None:
    text = "My sister and my aunt were in Denver and Paris three weeks and nine days ago with 27 people and $99."
    assert invented(FACTS, text) == {"aunt", "paris", "nine days", "27", "$99"}


def test_the_penalties_have_bounds() -> None:
    wild = "My aunt, uncle, boss, coach and dean met in Paris, Oslo and Rome. " + "So it went on and on. " * 40
    assert gold_score(FACTS, wild) == pytest.approx(0 - 0.75 - 0.5 - 0.1)


@pytest.mark.parametrize(
    "text, faults",
    [("A b c d.", 0), ("a b c d.", 1), ("A b c d", 1), ("A b c d e a b c d.", 1), ("One two. One two.", 1), ("", 2)],
)
def test_form_faults(text: str, faults: int) -> None:
    assert form_faults(text) == faults
    assert form_faults(text, ended=False) == faults + 1


@settings(max_examples=80, deadline=None)
@given(st.integers(min_value=0), st.sampled_from(situations()))
def test_what_should_be_worse_scores_worse(seed: int, about: object) -> None:
    rng = random.Random(seed)
    draft = draw(rng, about)  # type: ignore[arg-type]
    best = perfect_summary(draft)
    assert gold_score(draft.facts, best) == pytest.approx(1.0)
    for worse in (
        write_summary(rng, draft, [name for name in DETAILS if name != "place"]),
        with_wrong_value(rng, draft, best),
        ramble(rng, best),
        f"{best} {best}",
        best[:-1],
    ):
        assert gold_score(draft.facts, worse) < 1.0 - 0.05


@settings(max_examples=80, deadline=None)
@given(st.integers(min_value=0), st.sampled_from(situations()))
def test_posts_state_every_fact_and_nothing_else(seed: int, about: object) -> None:
    rng = random.Random(seed)
    draft = draw(rng, about)  # type: ignore[arg-type]
    post = write_post(rng, draft)
    assert coverage(draft.facts, post.split("POST:")[1]) == 1.0
    assert not invented(draft.facts, post)
