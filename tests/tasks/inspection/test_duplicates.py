"""Exact repetitions, counted by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from tasks.inspection.duplicates import SplitKeys, body_of, contradictions, key, overlap
from tasks.inspection.view import Record
from tasks.records import Pair, Post


def keys(records: Iterable[Record]) -> SplitKeys:
    split = SplitKeys()
    for record in records:
        split.add(record)
    return split


def test_posts_within_and_across_splits(make_post: Callable[..., Post]) -> None:
    train = keys(
        [
            make_post("My cat ran away", "it ran", "train 1"),
            make_post("A dog", "it sat", "train 2"),
            make_post("my  CAT ran\naway", "she left", "train 3", title="Another title"),
            make_post("A fish", "it sat", "train 4"),
        ]
    )
    test = keys([make_post("a bird", "it ran", "test 1"), make_post("a DOG", "it flew", "test 2")])
    posts = overlap({"train": train, "test": test}, "post")
    assert posts.rows == {"train": 4, "test": 2}
    assert posts.repeated == {"train": 1, "test": 0}
    (shared,) = posts.shared
    assert (shared.first, shared.second, shared.count) == ("train", "test", 1)
    assert shared.places == (("train 2", "test 2"),)
    summaries = overlap({"train": train, "test": test}, "summary")
    assert summaries.repeated == {"train": 1, "test": 0}
    assert summaries.shared[0].places == (("train 1", "test 1"),)


def test_places_are_the_first_of_the_later_split(make_post: Callable[..., Post]) -> None:
    bodies = ["one", "two", "three", "four"]
    train = keys([make_post(body, place=f"train {body}") for body in bodies])
    test = keys([make_post(body, place=f"test {body}") for body in (*reversed(bodies), "four")])
    (shared,) = overlap({"train": train, "test": test}, "post").shared
    assert shared.count == 4
    assert shared.places == (
        ("train four", "test four"),
        ("train three", "test three"),
        ("train two", "test two"),
    )


def test_a_text_that_is_there_twice_in_both_splits_is_shared_once(make_post: Callable[..., Post]) -> None:
    twice = keys([make_post("the same"), make_post("the same")])
    found = overlap({"a": twice, "b": twice, "c": keys([make_post("another")])}, "post")
    assert {(item.first, item.second): item.count for item in found.shared} == {
        ("a", "b"): 1,
        ("a", "c"): 0,
        ("b", "c"): 0,
    }


def test_pairs(make_pair: Callable[..., Pair]) -> None:
    split = keys(
        [
            make_pair("post one", "good", "bad"),
            make_pair("post one", "good", "worse"),
            make_pair("post one", "Good ", "bad"),  # the first again
            make_pair("post one", "worse", "good"),  # contradicts the second
            make_pair("post one", "GOOD", "worse"),  # the second again: still one contradiction
            make_pair("post two", "bad", "good"),  # of another post: contradicts nothing
            make_pair("post two", "same", "SAME"),  # alike but for case: not both ways round
            make_pair("post two", "alike", "ALIKE"),
        ]
    )
    assert overlap({"x": split}, "post").repeated == {"x": 6}
    assert overlap({"x": split}, "pair").repeated == {"x": 2}
    assert contradictions({"x": split}) == {"x": 1}


def test_the_body_is_what_counts_and_the_prompt_where_there_is_none(make_post: Callable[..., Post]) -> None:
    assert body_of(make_post("hello\nyou", title="x")) == "hello\nyou"
    empty = Post("1", "TITLE: Only a title\nPOST:\nTL;DR:", "x")
    assert body_of(empty) == empty.prompt


def test_texts_are_not_run_together() -> None:
    assert key("ab", "c") != key("a", "bc")


@given(st.text(st.characters(codec="ascii"), min_size=1), st.sampled_from(["\n", "  ", "\t "]))
def test_case_and_white_space_do_not_matter(text: str, space: str) -> None:
    assert key(text) == key(space + space.join(text.split()).upper() + space)


def test_the_same_in_every_process() -> None:
    # A Python process has its own hash seed; hashes that followed it would differ from run to run.
    code = (
        "from tasks.inspection.duplicates import key; from tasks.inspection.near import signature;"
        "print(key('My cat', 'ran'), signature('one two three four five six').sum())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
