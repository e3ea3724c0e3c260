"""Pairwise losses against numbers worked by hand: −log σ(1) = 0.313262, −log σ(0) = 0.693147, −log σ(−1) = 1.313262."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.functional.preference import first_divergence, first_divergence_loss, pair_accuracy, pairwise_loss


def test_pairwise_loss_golden() -> None:
    loss = pairwise_loss(torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0, 0.0, 0.0]))
    assert loss.item() == pytest.approx((0.313262 + 0.693147 + 1.313262) / 3, abs=1e-6)


def test_pairwise_loss_of_half_precision_is_float32_and_finite() -> None:
    loss = pairwise_loss(torch.tensor([-300.0], dtype=torch.bfloat16), torch.tensor([300.0], dtype=torch.bfloat16))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(600.0, rel=1e-2)


def test_first_divergence_counts_to_the_end_of_the_longer_side() -> None:
    chosen = torch.tensor([[1, 2, 3, 5, 9, 0]])
    rejected = torch.tensor([[1, 2, 4, 5, 0, 0]])
    chosen_mask = torch.tensor([[1, 1, 1, 1, 1, 0]])
    rejected_mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    # position 3 holds the same token on both sides and still counts: it comes after the first difference
    expected = [[False, False, True, True, True, False]]
    assert first_divergence(chosen, rejected, chosen_mask, rejected_mask).tolist() == expected


def test_first_divergence_sees_an_end_that_padding_hides() -> None:
    # the pad id equals the chosen side's last token, so ids alone show no difference
    ids = torch.tensor([[1, 2]])
    counts = first_divergence(ids, ids, torch.tensor([[1, 1]]), torch.tensor([[1, 0]]))
    assert counts.tolist() == [[False, True]]


def test_first_divergence_loss_golden() -> None:
    chosen = torch.tensor([[9.0, 9.0, 1.0, 0.0], [5.0, 0.0, 0.0, 0.0]])
    rejected = torch.tensor([[7.0, 0.0, 0.0, 0.0], [4.0, 1.0, 0.0, 0.0]])
    counts = torch.tensor([[False, False, True, True], [False, True, False, False]])
    # row 1: (0.313262 + 0.693147) / 2 = 0.503204; row 2: 1.313262; their mean:
    assert first_divergence_loss(chosen, rejected, counts).item() == pytest.approx(0.908233, abs=1e-6)


def test_identical_rows_count_as_no_pair() -> None:
    scores = torch.tensor([[1.0, 1.0], [0.0, 0.0]], requires_grad=True)
    counts = torch.tensor([[False, True], [False, False]])
    loss = first_divergence_loss(scores, torch.zeros(2, 2), counts)
    assert loss.item() == pytest.approx(0.313262, abs=1e-6)
    none = first_divergence_loss(scores, torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool))
    none.backward()
    assert none.item() == 0 and scores.grad is not None and scores.grad.abs().sum() == 0


@given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=8), st.floats(-5, 5))
def test_only_differences_matter(pairs: list[tuple[float, float]], shift: float) -> None:
    chosen, rejected = (torch.tensor(side, dtype=torch.float32) for side in zip(*pairs, strict=True))
    moved = pairwise_loss(chosen + shift, rejected + shift)
    assert moved.item() == pytest.approx(pairwise_loss(chosen, rejected).item(), abs=1e-4)


def test_a_tie_is_half_right() -> None:
    assert pair_accuracy(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([0.0, 0.0, 3.0])).tolist() == [1.0, 0.5, 0.0]
