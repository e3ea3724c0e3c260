"""Running moments against numpy, however the scores are cut into batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.utils.moments import RunningMoments

batches = st.lists(st.lists(st.floats(-1000, 1000, width=32), max_size=6), min_size=1, max_size=6)


def fed(parts: list[list[float]]) -> RunningMoments:
    moments = RunningMoments()
    for part in parts:
        moments.update(torch.tensor(part))
    return moments


@given(batches)
def test_equal_to_numpy(parts: list[list[float]]) -> None:
    scores = np.array([score for part in parts for score in part], dtype=np.float64)
    moments = fed(parts)
    assert moments.count == len(scores)
    if len(scores):
        assert moments.mean == pytest.approx(scores.mean(), rel=1e-9, abs=1e-9)
    if len(scores) > 1 and scores.std() > 1e-3:
        assert moments.std == pytest.approx(scores.std(ddof=1), rel=1e-6)


def test_golden() -> None:
    moments = fed([[1.0], [2.0, 6.0]])
    # mean 3; squared distances 4 + 1 + 9 = 14, over 3 − 1
    assert (moments.count, moments.mean) == (3, 3.0)
    assert moments.std == pytest.approx(2.6457513, abs=1e-6)  # √7
    assert moments.var == pytest.approx(14 / 3)


def test_no_spread_divides_by_1() -> None:
    assert (RunningMoments().std, RunningMoments().var) == (1.0, 1.0)
    assert fed([[5.0]]).std == 1.0
    assert fed([[5.0, 5.0], [5.0]]).std == 1.0


def test_merging_summaries_is_updating() -> None:
    merged = fed([[1.0]])
    merged.merge(count=2, mean=4.0, squares=8.0)  # of 2 and 6
    assert merged == fed([[1.0], [2.0, 6.0]])
