"""Generalized advantage estimation: a ragged batch worked by hand, and what must hold for every batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.functional.advantages import gae

NAN = float("nan")
floats = st.floats(-10, 10, width=32)
rows_of_pairs = st.lists(st.lists(st.tuples(floats, floats), min_size=1, max_size=6), min_size=1, max_size=4)


def batch(rows: list[list[tuple[float, float]]], extra: int = 0, pad: float = NAN) -> tuple[torch.Tensor, ...]:
    """(rewards, values, mask) of ragged rows of (reward, value), padded with `pad`."""
    width = max(map(len, rows)) + extra
    padded = torch.tensor([row + [(pad, pad)] * (width - len(row)) for row in rows], dtype=torch.float64)
    mask = torch.arange(width) < torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return padded[..., 0], padded[..., 1], mask


def test_golden_ragged() -> None:
    rewards, values, mask = batch([[(1, 4), (2, 2), (3, 6)], [(1, 2), (2, 4)]])
    advantages, returns = gae(rewards, values, mask, gamma=0.5, lam=0.5)
    # row 0: δ₂ = 3 − 6 = −3;  δ₁ = 2 + .5·6 − 2 = 3;  δ₀ = 1 + .5·2 − 4 = −2
    #        A₂ = −3;  A₁ = 3 + .25·(−3) = 2.25;  A₀ = −2 + .25·2.25 = −1.4375
    # row 1 ends one token earlier, with nothing after: δ₁ = 2 − 4 = −2;  δ₀ = 1 + .5·4 − 2 = 1;  A₀ = 1 + .25·(−2) = .5
    assert advantages.tolist() == [[-1.4375, 2.25, -3.0], [0.5, -2.0, 0.0]]
    assert returns.tolist() == [[2.5625, 4.25, 3.0], [2.5, 2.0, 0.0]]


def test_gamma_and_lambda_are_not_interchangeable() -> None:
    rewards, values, mask = batch([[(0, 1), (0, 2)]])
    # δ₁ = −2.  γ = .5, λ = 1: δ₀ = .5·2 − 1 = 0, A₀ = 0 + .5·(−2) = −1.  γ = 1, λ = .5: δ₀ = 2 − 1 = 1, A₀ = 1 − 1 = 0
    assert gae(rewards, values, mask, gamma=0.5, lam=1.0)[0].tolist() == [[-1.0, -2.0]]
    assert gae(rewards, values, mask, gamma=1.0, lam=0.5)[0].tolist() == [[0.0, -2.0]]


@given(rows_of_pairs, st.integers(1, 4))
def test_a_row_does_not_depend_on_padding(rows: list[list[tuple[float, float]]], extra: int) -> None:
    together = gae(*batch(rows, extra), gamma=0.9, lam=0.8)
    for index, row in enumerate(rows):
        alone = gae(*batch([row], pad=3.0), gamma=0.9, lam=0.8)
        for all_rows, one in zip(together, alone, strict=True):
            torch.testing.assert_close(all_rows[index, : len(row)], one[0])
            assert all_rows[index, len(row) :].eq(0).all()


@given(rows_of_pairs)
def test_undiscounted_returns_are_the_reward_to_go(rows: list[list[tuple[float, float]]]) -> None:
    _, returns = gae(*batch(rows), gamma=1.0, lam=1.0)
    for index, row in enumerate(rows):
        for t in range(len(row)):
            assert returns[index, t].item() == pytest.approx(sum(reward for reward, _ in row[t:]), abs=1e-9)


@given(rows_of_pairs)
def test_lambda_0_is_the_one_step_error(rows: list[list[tuple[float, float]]]) -> None:
    advantages, _ = gae(*batch(rows), gamma=0.9, lam=0.0)
    for index, row in enumerate(rows):
        for t, (reward, value) in enumerate(row):
            after = row[t + 1][1] if t + 1 < len(row) else 0.0
            assert advantages[index, t].item() == pytest.approx(reward + 0.9 * after - value, abs=1e-9)
