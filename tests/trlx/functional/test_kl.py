"""KL estimates, the shaped rewards and the controller, against constants worked by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.functional.kl import KLPenalty, k1, k3, kl_shaped_rewards, penalty, update_kl_coef

NAN = float("nan")
MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool()
# log π − log π_ref at real tokens: 0.5, −1 | 0, 0.2, 0.3 | 2; pads hold garbage
LOGPROBS = torch.tensor([[-1.0, -3.0, NAN], [-2.0, -1.0, -0.5], [-1.0, 7.0, NAN]])
REF = torch.tensor([[-1.5, -2.0, 4.0], [-2.0, -1.2, -0.8], [-3.0, -5.0, NAN]])


def test_k1_and_k3_golden() -> None:
    logprobs, ref = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([-1.5, -2.0, -2.0])
    assert k1(logprobs, ref).tolist() == [0.5, -1.0, 0.0]
    # e^−0.5 − 1 + 0.5 = 0.106531; e^1 − 1 − 1 = 0.718282
    assert k3(logprobs, ref).tolist() == pytest.approx([0.106531, 0.718282, 0.0], abs=1e-6)


def test_the_score_lands_on_each_rows_own_last_token() -> None:
    rewards, kl = kl_shaped_rewards(torch.tensor([2.0, -3.0, 1.0]), LOGPROBS, REF, MASK, kl_coef=0.1)
    expected = [
        [-0.05, 0.1 + 2.0, 0.0],  # a length of 2: the score stands on index 1, not on the pad
        [0.0, -0.02, -0.03 - 3.0],
        [-0.2 + 1.0, 0.0, 0.0],
    ]
    for got, row in zip(rewards.tolist(), expected, strict=True):
        assert got == pytest.approx(row, abs=1e-6)
    for got, row in zip(kl.tolist(), [[0.5, -1.0, 0.0], [0.0, 0.2, 0.3], [2.0, 0.0, 0.0]], strict=True):
        assert got == pytest.approx(row, abs=1e-6)


def test_dense_scores_are_added_token_by_token() -> None:
    scores = torch.tensor([[1.0, 2.0, NAN], [0.0, 0.0, 5.0], [1.0, 9.0, 9.0]])
    rewards, _ = kl_shaped_rewards(scores, LOGPROBS, REF, MASK, kl_coef=0.1)
    for got, row in zip(rewards.tolist(), [[0.95, 2.1, 0], [0, -0.02, 4.97], [0.8, 0, 0]], strict=True):
        assert got == pytest.approx(row, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("kl", [0.5, -1.0, 0.0]), ("abs", [0.5, 1.0, 0.0]), ("mse", [0.125, 0.5, 0.0])],
)
def test_penalties_golden(kind: KLPenalty, expected: list[float]) -> None:
    logprobs, ref = torch.tensor([-1.0, -3.0, -2.0]), torch.tensor([-1.5, -2.0, -2.0])
    assert penalty(logprobs, ref, kind).tolist() == expected


def test_another_penalty_shapes_the_rewards_and_leaves_the_kl_that_is_told() -> None:
    scores = torch.tensor([2.0, -3.0, 1.0])
    rewards, kl = kl_shaped_rewards(scores, LOGPROBS, REF, MASK, kl_coef=0.1, kind="abs")
    expected = [[-0.05, -0.1 + 2.0, 0.0], [0.0, -0.02, -0.03 - 3.0], [-0.2 + 1.0, 0.0, 0.0]]
    for got, row in zip(rewards.tolist(), expected, strict=True):
        assert got == pytest.approx(row, abs=1e-6)
    assert torch.equal(kl, kl_shaped_rewards(scores, LOGPROBS, REF, MASK, kl_coef=0.1)[1])


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.6, 0.100128),  # error 0.1: 0.1 · (1 + 0.1 · 128/10000)
        (12.0, 0.100256),  # error 1, cut to 0.2: 0.1 · (1 + 0.2 · 0.0128)
        (600.0, 0.100256),
        (5.7, 0.099936),  # error −0.05: 0.1 · (1 − 0.05 · 0.0128)
        (0.0, 0.099744),  # error −1, cut to −0.2
        (-3.0, 0.099744),
        (6.0, 0.1),
    ],
)
def test_controller_golden(kl: float, expected: float) -> None:
    assert update_kl_coef(0.1, kl, target=6.0, horizon=10_000, n=128) == pytest.approx(expected, abs=1e-12)


def test_controller_without_a_target_keeps_the_coefficient() -> None:
    assert update_kl_coef(0.1, 99.0, target=None, horizon=10_000, n=128) == 0.1


@given(st.lists(st.tuples(st.floats(-20, 0, width=32), st.floats(-20, 0, width=32)), min_size=1, max_size=20))
def test_k3_is_never_negative(pairs: list[tuple[float, float]]) -> None:
    logprobs, ref = torch.tensor(pairs).double().unbind(dim=1)
    assert (k3(logprobs, ref) >= -1e-15).all()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 3), st.floats(0, 2))
def test_shaped_rewards_add_up_to_score_minus_penalty(lengths: list[int], extra: int, coef: float) -> None:
    width = max(lengths) + extra
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    generator = torch.Generator().manual_seed(len(lengths) * 100 + width)
    logprobs, ref = -torch.rand(2, len(lengths), width, generator=generator, dtype=torch.float64)
    logprobs, ref = logprobs.masked_fill(~mask, NAN), ref.masked_fill(~mask, NAN)
    scores = torch.arange(1.0, len(lengths) + 1).double()
    rewards, kl = kl_shaped_rewards(scores, logprobs, ref, mask, coef)
    assert rewards[~mask].eq(0).all() and kl[~mask].eq(0).all()
    torch.testing.assert_close(rewards.sum(1), scores - coef * kl.sum(1))
