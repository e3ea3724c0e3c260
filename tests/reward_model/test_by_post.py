"""Shares over pairs with intervals over posts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.statistics import mean_interval
from reward_model.by_post import by_post, difference_by_post, share_by_post

OUTCOMES = [1.0, 0.0, 1.0, 1.0, 0.5, 0.0, 1.0, 1.0]


def test_one_pair_a_post_is_the_plain_bootstrap() -> None:
    assert share_by_post(OUTCOMES, range(8)) == mean_interval(OUTCOMES)


def test_pairs_of_a_post_that_agree_add_pairs_and_no_knowledge() -> None:
    three_times = share_by_post(OUTCOMES * 3, [*range(8)] * 3)
    once = share_by_post(OUTCOMES, range(8))
    assert three_times.n == 24
    assert (three_times.mean, three_times.low, three_times.high) == pytest.approx((once.mean, once.low, once.high))
    as_if_apart = mean_interval(OUTCOMES * 3)
    assert as_if_apart.low is not None and three_times.low is not None and as_if_apart.low > three_times.low


def test_the_linearisation_golden() -> None:
    # post a: 1 and 1, post b: 0; R = 2/3, mean count 1.5; a: 2/3 + (2 - 4/3)/1.5 = 10/9, b: 2/3 + (0 - 2/3)/1.5 = 2/9
    assert by_post([1, 1, 0], ["a", "a", "b"]) == pytest.approx([10 / 9, 2 / 9])


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=1, max_size=40))
def test_the_mean_is_over_pairs(rows: list[tuple[float, int]]) -> None:
    values, posts = [value for value, _ in rows], [post for _, post in rows]
    numbers = by_post(values, posts)
    assert len(numbers) == len(set(posts))
    assert sum(numbers) / len(numbers) == pytest.approx(sum(values) / len(values))


def test_all_right_still_has_a_width() -> None:
    interval = share_by_post([1.0] * 20, [number // 2 for number in range(20)])
    # Wilson, 10 of 10 posts: 10 / (10 + 1.96²) = 0.7225
    assert interval.low == pytest.approx(0.7225, abs=1e-4) and interval.mean == 1.0 and interval.n == 20
    none = share_by_post([0.0] * 10, range(10))
    assert (none.mean, none.low) == (0.0, pytest.approx(0.0)) and none.high == pytest.approx(0.2775, abs=1e-4)


def test_a_share_never_leaves_0_to_1() -> None:
    # Linearised: a 1.125, b 0.1875, c 0.9375, so that draws of a alone leave the shares.
    interval = share_by_post([1, 1, 0, 1], ["a", "a", "b", "c"])
    assert interval.mean == 0.75 and interval.low is not None and interval.high is not None
    assert 0.0 <= interval.low < 0.75 < interval.high <= 1.0
    turned = share_by_post([0, 0, 1, 0], ["a", "a", "b", "c"])
    assert turned.low is not None and 0.0 <= turned.low < 0.25


def test_difference_is_paired() -> None:
    ours, theirs = [1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]
    found = difference_by_post(ours, theirs, range(4))
    assert found.mean == 0.5 and found.n == 4
    same = difference_by_post(ours, ours, range(4))
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        share_by_post([], [])
