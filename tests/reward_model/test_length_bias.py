"""Baselines that know nothing but lengths."""

import itertools
import random

import pytest

from reward_model.length_bias import by_length_difference, length_only, longer_wins


def text(words: int) -> str:
    return " ".join(["w"] * words)


def test_longer_wins_with_ties() -> None:
    chosen, rejected = ["a b c", "a", "a  b", ""], ["a b", "a b", "c d", "x"]
    assert longer_wins(chosen, rejected) == [1.0, 0.0, 0.5, 0.0]


def test_a_liking_for_length_is_learnt_on_other_posts() -> None:
    chosen, rejected = [text(n + 3) for n in range(1, 31)], [text(n) for n in range(1, 31)]
    assert length_only(chosen, rejected, range(30)) == [1.0] * 30
    assert length_only(rejected, chosen, range(30)) == [1.0] * 30  # shorter is better, all alike


def test_a_middling_length_can_be_liked() -> None:
    rng = random.Random(0)
    pairs = [rng.sample([1, 2, 20, 24, 300, 400], 2) for _ in range(400)]
    liked = {20, 24}
    clear = [(a, b) if a in liked else (b, a) for a, b in pairs if (a in liked) != (b in liked)]
    right = length_only([text(a) for a, _ in clear], [text(b) for _, b in clear], range(len(clear)))
    assert right is not None and sum(right) / len(right) > 0.95
    simple = longer_wins([text(a) for a, _ in clear], [text(b) for _, b in clear])
    assert sum(simple) / len(simple) < 0.7


def test_a_post_is_never_predicted_from_itself() -> None:
    # post 0 alone likes short summaries, by far the most often; predicted from the others it is always wrong
    chosen = [text(2)] * 40 + [text(9)] * 8
    rejected = [text(9)] * 40 + [text(2)] * 8
    right = length_only(chosen, rejected, [0] * 40 + list(range(1, 9)))
    assert right is not None and right[:40] == [0.0] * 40


def test_equal_lengths_are_undecided_and_too_few_posts_are_not_fitted() -> None:
    assert length_only([text(5)] * 10, [text(5)] * 10, range(10)) == [0.5] * 10
    assert length_only([text(6)] * 10, [text(5)] * 10, [0, 1, 2, 3] * 2 + [0, 1]) is None


def test_noise_gives_chance() -> None:
    rng = random.Random(1)
    sides = [[text(rng.randint(5, 50)) for _ in range(600)] for _ in range(2)]
    right = length_only(*sides, range(600))
    assert right is not None and sum(right) / 600 == pytest.approx(0.5, abs=0.08)


def test_buckets_hold_every_pair_once_and_keep_equal_differences_together() -> None:
    differences = [-9, -9, -9, -2, -1, 0, 0, 0, 0, 0, 0, 4, 8, 30]
    chosen = [text(40 + max(0, d)) for d in differences]
    rejected = [text(40 + max(0, -d)) for d in differences]
    right = [float(number) for number in range(14)]
    found = by_length_difference(chosen, rejected, right)
    assert sorted(value for one in found for value in one.right) == right
    assert [(one.low, one.high) for one in found] == sorted((one.low, one.high) for one in found)
    assert all(a.high < b.low for a, b in itertools.pairwise(found))
    assert next(one for one in found if one.low <= 0 <= one.high).right[-6:] == right[5:11]


def test_one_difference_is_one_bucket() -> None:
    (bucket,) = by_length_difference(["a"] * 3, ["b"] * 3, [1.0, 0.0, 0.5])
    assert (bucket.low, bucket.high, bucket.right) == (0, 0, [1.0, 0.0, 0.5])
