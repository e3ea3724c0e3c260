"""Counts kept while rows go by, worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.inspection.measure import BLOCK, WordRuler
from tasks.inspection.raw import RawCounts, file_of, is_empty, is_foreign
from tasks.inspection.report import Column
from tasks.inspection.scan import Reservoir
from tasks.inspection.tally import FacetTally, FitTally, LengthTally
from tasks.inspection.tokens import TokenRuler
from tasks.inspection.view import view
from tasks.reading.rows import RawRow
from tasks.records import Pair, Post
from tasks.text import TLDR
from trlx.utils.errors import UserError

TEXT = ["My", "cat", "was", "lost\n", "in the", "garden,", "TITLE:"]


def lengths(kind: str, *records: Post | Pair) -> LengthTally:
    tally = LengthTally(kind)
    for block in WordRuler().measured(records):
        tally.add(block)
    return tally


def test_lengths_of_posts_in_words(make_post: Callable[..., Post]) -> None:
    # "SUBREDDIT: r/pets TITLE: Cat POST: ... TL;DR:" are 6 words beside the body's
    posts = (make_post("a b c", "one two"), make_post("a b c d e", "one"), make_post("a", "one two three"))
    spreads = lengths("posts", *posts).spreads()
    assert list(spreads) == ["prompt", "response", "sum"]
    assert (spreads["prompt"].min, spreads["prompt"].max, spreads["prompt"].mean) == (7, 11, 9)
    assert (spreads["sum"].min, spreads["sum"].median, spreads["sum"].max) == (10, 11, 12)
    assert lengths("posts", *posts).chosen_longer() is None


def test_lengths_of_pairs(make_pair: Callable[..., Pair]) -> None:
    tally = lengths(
        "pairs",
        make_pair("a", "one two three", "one"),
        make_pair("a", "one", "one two"),
        make_pair("a", "one", "two"),
        make_pair("a", "one two", "one"),
    )
    spreads = tally.spreads()
    assert list(spreads) == ["prompt", "chosen", "rejected", "sum", "difference"]
    assert (spreads["difference"].min, spreads["difference"].mean, spreads["difference"].max) == (-1, 0.5, 2)
    assert (spreads["sum"].min, spreads["sum"].max) == (8, 10)
    assert tally.chosen_longer() == (2 + 0.5) / 4


def test_nothing_to_measure() -> None:
    assert lengths("pairs").spreads() == {} and lengths("pairs").chosen_longer() is None


def test_blocks_change_nothing(make_post: Callable[..., Post]) -> None:
    posts = [make_post("a " * number, "b " * number) for number in range(2 * BLOCK + 1)]
    blocks = list(WordRuler().measured(posts))
    assert [len(block.records) for block in blocks] == [BLOCK, BLOCK, 1]
    assert np.concatenate([block.prompts for block in blocks]).tolist() == [6 + number for number in range(len(posts))]


def test_what_a_limit_takes_away(make_post: Callable[..., Post], tokenizer: Any) -> None:
    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    short = make_post("My cat", "lost", "line 1")
    long = make_post("My cat\n" + "was lost in the garden " * 10, "lost", "line 2")
    hopeless = make_post("My cat", "lost " * 80, "line 3")
    limit = count(short.prompt) + 10
    (block,) = TokenRuler(TLDR, tokenizer, limit).measured([short, long, hopeless])
    assert block.prompts.tolist() == [count(short.prompt), count(long.prompt), count(short.prompt)]
    assert block.responses.tolist() == [[count(" lost") + 1, count(" lost") + 1, count(" " + "lost " * 80) + 1]]
    # The long post keeps its first line, which makes it the short one.
    assert block.lost == {1: count(long.prompt) - count(short.prompt), 2: None}
    tally = FitTally(limit, 5)
    tally.add(block)
    tally.add(block)
    fit, rollouts = tally.fit(), tally.rollouts()
    assert (fit.rows, fit.cut, fit.too_long, fit.first_too_long) == (6, 2, 2, "line 3")
    assert fit.mean_lost == count(long.prompt) - count(short.prompt)
    assert (rollouts.room, rollouts.prompts_cut, rollouts.references_longer) == (limit - 5, 2, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(*[st.lists(st.sampled_from(TEXT), min_size=1, max_size=40).map(" ".join)] * 3), min_size=1, max_size=6
    ),
    st.integers(20, 150),
    st.booleans(),
)
def test_lengths_are_those_of_the_ids_that_are_trained_on(
    make_post: Callable[..., Post], make_pair: Callable[..., Pair], tokenizer: Any, texts: Any, limit: int, pairs: bool
) -> None:
    make: Callable[..., Post | Pair] = make_pair if pairs else make_post
    records = [make(body, chosen, *([rejected] if pairs else [])) for body, chosen, rejected in texts]
    (block,) = TokenRuler(TLDR, tokenizer, limit).measured(records)
    for place, record in enumerate(records):
        whole = view(TLDR, tokenizer, record, 10_000)
        assert block.prompts[place] == len(whole.prompt_ids)
        assert block.responses[:, place].tolist() == [len(ids) for ids in whole.responses]
        try:
            cut = len(whole.prompt_ids) - len(view(TLDR, tokenizer, record, limit).prompt_ids)
        except UserError:
            assert block.lost[place] is None
        else:
            assert (block.lost.get(place) or 0) == cut


def test_facets_in_their_natural_order(make_pair: Callable[..., Pair]) -> None:
    tally = FacetTally()
    for confidence, worker in ((10, "x"), (9, "y"), (9, "x"), (2, "x")):
        tally.add(make_pair("a", "b", "c", batch="batch3", confidence=confidence, worker=worker))
    tally.add(make_pair("a", "b", "c"))
    assert tally.facets() == {"batch": {"batch3": 4}, "confidence": {"2": 1, "9": 2, "10": 1}}
    assert list(tally.facets()["confidence"]) == ["2", "9", "10"]
    assert tally.workers() == 2


def test_a_facet_does_not_grow_without_bound(make_pair: Callable[..., Pair]) -> None:
    tally = FacetTally()
    for number in range(1000):
        tally.add(make_pair("a", "b", "c", batch=number))
    assert len(tally.facets()["batch"]) == 201
    assert tally.facets()["batch"]["others"] == 800
    assert FacetTally().workers() is None


def test_raw_rows() -> None:
    counts = RawCounts()
    for number, values in enumerate(
        [
            {"prompt": "POST: x", "label": " "},
            {"prompt": "Human: hi\n\nAssistant:", "label": None, "more": []},
            {"prompt": "anything TL;DR: "},
        ],
        start=1,
    ):
        counts.add(RawRow(values, f"data/a, b.jsonl, line {number}"))
    assert counts.files == {"data/a, b.jsonl": 3}
    assert counts.columns(("prompt", "label", "id")) == {
        "prompt": Column(3, 0, True),
        "label": Column(2, 2, True),
        "id": Column(0, 0, True),
        "more": Column(1, 1, False),
    }
    assert counts.foreign_prompts == 1


def test_empty_and_foreign() -> None:
    assert [is_empty(value) for value in (None, "", " \n", [], {}, "x", 0, False, [0])] == [True] * 5 + [False] * 4
    assert not is_foreign([{"role": "user", "content": "hi"}])
    assert not is_foreign("")


@pytest.mark.parametrize(
    "where, file",
    [
        ("d/train.jsonl, line 12", "d/train.jsonl"),
        ("d/x.json, element 2, line 7", "d/x.json"),
        ("x.parquet, row 3", "x.parquet"),
        ("some/set, split 'train', row 1", "some/set, split 'train'"),
        ("a, line 3.jsonl, line 4", "a, line 3.jsonl"),
        ("a, element 2.json, line 4", "a, element 2.json"),
        ("a, b", "a, b"),
        ("row 3", "row 3"),
    ],
)
def test_the_file_of_a_place(where: str, file: str) -> None:
    assert file_of(where) == file


def test_the_sample_is_fair(make_post: Callable[..., Post]) -> None:
    posts = [make_post(str(number), place=str(number)) for number in range(10)]
    drawn = {number: 0 for number in range(10)}
    for seed in range(2000):
        reservoir = Reservoir(3, seed)
        for post in posts:
            reservoir.add("train", post)
        assert len({record.where for _, record in reservoir.items}) == 3
        for _, record in reservoir.items:
            drawn[int(record.where)] += 1
    # 2000 draws of 3 in 10: 600 each, standard deviation 20.5
    assert all(500 < count < 700 for count in drawn.values())
    few = Reservoir(3, 1)
    few.add("train", posts[0])
    assert few.items == [("train", posts[0])]
    none = Reservoir(0, 1)
    none.add("train", posts[0])
    assert none.items == []
