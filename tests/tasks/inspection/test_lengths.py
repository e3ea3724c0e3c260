"""The numbers and histograms of lengths, worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.inspection.lengths import BINS, Bin, bar, labels, spread


def test_numbers_of_a_few() -> None:
    found = spread([4, 1, 3, 2])
    assert found is not None
    assert (found.count, found.min, found.median, found.mean, found.max) == (4, 1, 2.5, 2.5, 4)
    assert (found.p95, found.p99) == (4, 4)
    assert found.bins == (Bin(1, 2, 1), Bin(2, 3, 1), Bin(3, 4, 1), Bin(4, 5, 1))


def test_one_to_a_hundred() -> None:
    found = spread(range(1, 101))
    assert found is not None
    assert (found.median, found.p95, found.p99) == (50.5, 95, 99)
    # 99 lengths between p1 and p99 in 11 bins are 9 each, rounded up to 10; 100 is past the last bound
    assert found.bins[0] == Bin(0, 10, 9)
    assert found.bins[1] == Bin(10, 20, 10)
    assert found.bins[-1] == Bin(90, None, 11)
    assert len(found.bins) == 10


def test_a_single_long_row_does_not_flatten_the_others() -> None:
    found = spread([10] * 100 + [20] * 99 + [5000])
    assert found is not None
    assert found.bins[-1] == Bin(20, None, 100)
    assert found.bins[0] == Bin(10, 11, 100)
    assert found.max == 5000


def test_negative_differences() -> None:
    found = spread([-7, -1, 0, 3])
    assert found is not None
    assert (found.min, found.median, found.mean, found.max) == (-7, -0.5, -1.25, 3)
    assert sum(item.count for item in found.bins if item.high is not None and item.high <= 0) == 2


def test_all_equal_and_none() -> None:
    found = spread([7, 7])
    assert found is not None and found.bins == (Bin(7, 8, 2),)
    assert spread([]) is None


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=300))
def test_every_value_is_counted_in_its_own_bin(values: list[int]) -> None:
    found = spread(values)
    assert found is not None
    assert len(found.bins) <= BINS
    for before, after in zip(found.bins, found.bins[1:], strict=False):
        assert before.high == after.low is not None
    for item in found.bins:
        low = -(10**9) if item.low is None else item.low
        high = 10**9 if item.high is None else item.high
        assert item.count == sum(low <= value < high for value in values)
    assert sum(item.count for item in found.bins) == len(values)


def test_labels() -> None:
    bins = (Bin(None, -50, 1), Bin(-50, 0, 1), Bin(0, 50, 2), Bin(50, 51, 2), Bin(950, 1000, 1), Bin(1000, None, 1))
    assert labels(bins) == ["under -50", "-50 to -1", "0-49", "50", "950-999", "from 1,000"]
    assert labels([Bin(None, None, 1)]) == ["all"]


@pytest.mark.parametrize(("count", "drawn"), [(0, ""), (1, "#"), (50, "#####"), (100, "##########")])
def test_bar(count: int, drawn: str) -> None:
    assert bar(count, 100, 10, "#") == drawn
