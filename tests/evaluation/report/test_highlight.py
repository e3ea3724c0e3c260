"""Where a summary's words come from: by hand, and against what the definition says of any text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.highlight import Span, source_spans

POST = "My old dog ran away in Oslo. I want my dog back, and I don't know where to look."
WORDS = st.lists(st.sampled_from(["dog", "Cat", "the", "I", "ran", "7", "o'clock", "x"]), max_size=14)


def pairs(post: str, summary: str) -> list[tuple[str, str]]:
    return [(post[s.start : s.end], summary[s.summary_start : s.summary_end]) for s in source_spans(post, summary)]


def test_runs_by_hand() -> None:
    assert source_spans(POST, "Dog ran away, want my dog back!") == [
        Span(start=7, end=19, summary_start=0, summary_end=12, words=3),
        Span(start=31, end=47, summary_start=14, summary_end=30, words=4),
    ]


def test_the_longest_run_wins_over_an_earlier_one() -> None:
    assert pairs("a red car and a red car door", "red car door") == [("red car door", "red car door")]


def test_a_run_is_placed_where_it_occurs_first() -> None:
    assert source_spans("Oslo, then Oslo", "Oslo")[0].start == 0


def test_function_words_alone_are_no_source_but_three_in_a_row_are() -> None:
    assert pairs(POST, "and I") == []
    assert pairs(POST, "I want my") == [("I want my", "I want my")]


def test_case_punctuation_and_the_apostrophe_make_no_difference() -> None:
    assert pairs(POST, "i don’t KNOW where") == [("I don't know where", "i don’t KNOW where")]


def test_numbers_count_and_lone_letters_do_not() -> None:
    assert pairs("It cost $7 at shop x", "paid 7 for x") == [("7", "7")]


def test_nothing_in_nothing() -> None:
    assert source_spans("", "a dog") == source_spans(POST, "") == []


@given(WORDS, WORDS)
def test_both_ends_of_a_span_hold_the_same_words(post_words: list[str], summary_words: list[str]) -> None:
    post, summary = ", ".join(post_words), "  ".join(summary_words)
    last = 0
    for span in source_spans(post, summary):
        theirs, ours = post[span.start : span.end], summary[span.summary_start : span.summary_end]
        assert re.findall(r"[\w']+", theirs.lower()) == re.findall(r"[\w']+", ours.lower())
        assert len(ours.split()) == span.words
        assert span.summary_start >= last  # in the summary's order, without overlap
        last = span.summary_end


@given(WORDS, WORDS, WORDS)
def test_a_copied_summary_is_one_run(before: list[str], copied: list[str], after: list[str]) -> None:
    """Whatever stands around it; and no run could be longer, or begin earlier."""
    summary = " ".join([*copied, "dog"])
    post = " ".join([*before, summary, *after])
    (span,) = source_spans(post, summary)
    assert span.words == len(copied) + 1
    assert f" {post[: span.end].lower()}".endswith(f" {summary.lower()}")
    assert f" {post[: span.end - 1].lower()} ".find(f" {summary.lower()} ") == -1


@given(st.text(), st.text())
def test_any_text_is_taken(post: str, summary: str) -> None:
    for span in source_spans(post, summary):
        assert 0 <= span.start < span.end <= len(post)
        assert 0 <= span.summary_start < span.summary_end <= len(summary)
