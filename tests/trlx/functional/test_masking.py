"""Masks and masked statistics: constants worked by hand, and pads that must never matter."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.functional.masking import (
    last_real_index,
    masked_mean,
    masked_moments,
    masked_sum,
    mean_and_variance,
    position_ids,
    response_mask,
    whiten,
)

NAN = float("nan")
floats = st.floats(-100, 100, width=32)


def test_response_mask_ends_with_the_first_eos() -> None:
    # EOS (0) in the middle and again later; first of all; absent; last
    response = torch.tensor([[5, 0, 7, 0], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 0]])
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert response_mask(response, eos_token_id=0).long().tolist() == expected


def test_response_mask_keeps_one_eos_when_pads_are_eos_too() -> None:
    assert response_mask(torch.tensor([[5, 0, 0, 0]]), eos_token_id=0).tolist() == [[True, True, False, False]]


def test_position_ids_count_real_tokens_from_zero() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]])
    # left pads count as 0; right pads repeat the last position
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 1, 2, 2]]


def test_last_real_index() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]]).bool()
    assert last_real_index(mask).tolist() == [1, 2, 0, 0]


def test_masked_sum_and_mean_golden() -> None:
    values = torch.tensor([[1.0, 2.0, NAN], [4.0, NAN, NAN], [NAN, NAN, NAN]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    assert masked_sum(values, mask).item() == 7.0
    assert masked_mean(values, mask).item() == pytest.approx(2.3333333, abs=1e-6)  # 7 / 3, not 7 / 9
    assert masked_sum(values, mask, dim=1).tolist() == [3.0, 4.0, 0.0]
    assert masked_mean(values, mask, dim=1).tolist() == [1.5, 4.0, 0.0]  # a row without real tokens is 0


def test_moments_golden() -> None:
    values = torch.tensor([[1.0, 2.0], [6.0, NAN]])
    mask = torch.tensor([[True, True], [True, False]])
    count, total, squares = masked_moments(values, mask)
    assert (count.item(), total.item(), squares.item()) == (3.0, 9.0, 41.0)  # 1 + 4 + 36
    mean, variance = mean_and_variance(count, total, squares)
    assert mean.item() == 3.0
    assert variance.item() == pytest.approx(4.6666667, abs=1e-6)  # 41/3 − 9: population variance
    assert [m.item() for m in mean_and_variance(*(torch.zeros(()),) * 3)] == [0.0, 0.0]


def test_whiten_golden() -> None:
    # 1 and 3: mean 2, variance 1
    values, mask = torch.tensor([[1.0, 3.0, NAN]]), torch.tensor([[True, True, False]])
    mean, variance = mean_and_variance(*masked_moments(values, mask))
    assert whiten(values, mask, mean, variance).tolist() == [[-1.0, 1.0, 0.0]]
    assert whiten(values, mask, mean, variance, shift_mean=False).tolist() == [[1.0, 3.0, 0.0]]


def test_whiten_uses_the_moments_of_all_ranks() -> None:
    # two ranks of one row each: 0, 2 and 4, 6 have mean 3 and variance (9 + 1 + 1 + 9) / 4 = 5 together
    mask = torch.ones(1, 2, dtype=torch.bool)
    rows = [torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 6.0]])]
    moments = [sum(parts) for parts in zip(*(masked_moments(row, mask) for row in rows), strict=True)]
    mean, variance = mean_and_variance(*moments)
    assert (mean.item(), variance.item()) == (3.0, 5.0)
    # −3 / √5 = −1.341641, −1 / √5 = −0.447214
    assert whiten(rows[0], mask, mean, variance).tolist()[0] == pytest.approx([-1.341641, -0.447214], abs=1e-6)


@given(st.lists(st.lists(floats, min_size=1, max_size=5), min_size=2, max_size=5), st.integers(0, 3))
def test_whitening_gives_mean_0_and_variance_1_whatever_the_pads(rows: list[list[float]], extra: int) -> None:
    width = max(map(len, rows)) + extra
    values = torch.tensor([row + [NAN] * (width - len(row)) for row in rows])
    mask = ~values.isnan()
    mean, variance = mean_and_variance(*masked_moments(values, mask))
    whitened = whiten(values, mask, mean, variance)
    assert whitened[~mask].eq(0).all()
    real = whitened[mask].double()
    if variance > 1.0:  # below, the 1e-8 in the root and float32 rounding begin to show
        assert abs(real.mean().item()) < 1e-3
        assert real.var(unbiased=False).item() == pytest.approx(1.0, abs=1e-3)
