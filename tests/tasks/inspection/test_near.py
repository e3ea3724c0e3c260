"""Near duplicates: planted ones with similarities worked by hand, and every pair compared as the second opinion."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.inspection.duplicates import key
from tasks.inspection.near import (
    PERMUTATIONS,
    RECALL,
    Near,
    SplitSignatures,
    bands,
    jaccard,
    near_duplicates,
    shingles,
    signature,
)


def find(splits: Mapping[str, list[str]], threshold: float = 0.8) -> list[Near]:
    signatures = {}
    for name, texts in splits.items():
        signatures[name] = SplitSignatures()
        for row, text in enumerate(texts):
            signatures[name].add(row, key(text), text)
    places = {name: [f"{name} {row}" for row in range(len(texts))] for name, texts in splits.items()}
    return near_duplicates(signatures, places, lambda name, rows: {row: splits[name][row] for row in rows}, threshold)


def words(count: int, prefix: str = "w") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def changed(text: list[str], *places: int) -> str:
    return " ".join("other" + word if place in places else word for place, word in enumerate(text))


def test_shingles() -> None:
    assert shingles("A b  C d e f") == {"a b c d e", "b c d e f"}
    assert shingles("too short") == {"too short"}
    assert shingles("") == {""}


def test_similarity_by_hand() -> None:
    # 10 words are 6 runs; the last word is in one of them: 5 in common of 7
    text = words(10)
    assert jaccard(shingles(changed(text)), shingles(changed(text, 9))) == 5 / 7
    # the fifth is in all but the last: 1 in common of 11
    assert jaccard(shingles(changed(text)), shingles(changed(text, 4))) == 1 / 11


def test_planted() -> None:
    # 104 words are 100 runs. One word in the middle spoils 5 of them: 95 / 105 = .905; three words far apart spoil
    # 15: 85 / 115 = .739; the last word spoils one: 99 / 101 = .980.
    base = [words(104, letter) for letter in "abcd"]
    train = [changed(text) for text in base]
    test = [changed(base[0], 50), changed(base[1], 20, 50, 80), changed(base[2], 103), changed(base[3]), "new " * 60]
    (found,) = find({"train": train, "test": test})
    assert (found.first, found.second, found.count) == ("train", "test", 2)
    assert [pair.places for pair in found.closest] == [("train 2", "test 2"), ("train 0", "test 0")]
    assert [pair.similarity for pair in found.closest] == [99 / 101, 95 / 105]
    assert found.closest[0].texts == (train[2][:80], test[2][:80])
    (looser,) = find({"train": train, "test": test}, 0.7)
    assert looser.count == 3
    assert looser.closest[2].similarity == 85 / 115


def test_posts_that_are_equal_are_not_near() -> None:
    text = changed(words(60))
    (found,) = find({"train": [text, changed(words(60), 59)], "test": ["  " + text.upper()]})
    assert found.count == 0


def test_the_closest_of_several_is_shown() -> None:
    base = words(104)
    for train in ([changed(base, 0, 103), changed(base, 103)], [changed(base, 103), changed(base, 0, 103)]):
        (found,) = find({"train": train, "test": [changed(base)]})
        assert found.count == 1
        assert [pair.similarity for pair in found.closest] == [99 / 101]
        assert found.closest[0].places[0] == f"train {train.index(changed(base, 103))}"


def test_every_two_splits_are_compared_whichever_is_larger() -> None:
    base = words(104)
    splits = {"a": [changed(base)], "b": [changed(base, 0), "x y z"], "c": ["p q r", "s t u", changed(base, 103)]}
    found = {(near.first, near.second): near.count for near in find(splits)}
    assert found == {("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 1}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_miss_few(threshold: float) -> None:
    number, rows = bands(threshold)
    assert number >= 2 and number * rows <= PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** number >= RECALL


def test_agrees_with_comparing_every_pair() -> None:
    rng = random.Random(3)
    base = [words(rng.randint(30, 120), f"t{number}_") for number in range(40)]
    train = [changed(text) for text in base]
    test = [changed(text, *rng.sample(range(len(text)), rng.randint(1, 4))) for text in base for _ in range(3)]
    best = [max(jaccard(shingles(text), shingles(other)) for other in train) for text in test]
    expected = sum(likeness >= 0.8 for likeness in best)
    (found,) = find({"train": train, "test": test})
    assert 20 < expected < 100
    assert found.count == expected
    assert [pair.similarity for pair in found.closest] == sorted(best, reverse=True)[:3]


def test_signatures_estimate_the_similarity() -> None:
    base = words(404)
    other = changed(base, 50, 120, 190, 260, 330)  # spoils 25 of 400 runs: 375 / 425
    estimate = float(np.mean(signature(changed(base)) == signature(other)))
    assert abs(estimate - 375 / 425) < 4 * (0.88 * 0.12 / PERMUTATIONS) ** 0.5


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=400), st.lists(st.text(max_size=60), max_size=5))
def test_the_same_runs_are_always_found(text: str, others: list[str]) -> None:
    # The repeated words add no run that was not there, so the similarity is 1 although the texts differ.
    longer = " ".join(["again"] * 7) + " " + text
    still_longer = "again " + longer
    (found,) = find({"train": [*others, longer], "test": [still_longer]}, 1.0)
    assert found.count == 1
    assert found.closest[0].similarity == 1
