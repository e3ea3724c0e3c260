"""Log-probabilities and entropy of a distribution over two tokens whose numbers are worked by hand."""

import math

import pytest
import torch

from trlx.functional.logprobs import entropy, logprobs_of_tokens

LOGITS = torch.tensor([[[0.0, math.log(3.0)]]])  # probabilities 1/4 and 3/4


@pytest.mark.parametrize(
    ("temperature", "token", "expected"),
    [
        (1.0, 0, -1.386294),  # log 1/4
        (1.0, 1, -0.287682),  # log 3/4
        # at temperature 2 the odds are √3 = 1.732051 to 1: log(1 / 2.732051) and log(1.732051 / 2.732051)
        (2.0, 0, -1.005053),
        (2.0, 1, -0.455746),
        (0.5, 0, -2.302585),  # the odds are 9 to 1: log 1/10
    ],
)
def test_logprobs_golden(temperature: float, token: int, expected: float) -> None:
    got = logprobs_of_tokens(LOGITS, torch.tensor([[token]]), temperature)
    assert got.shape == (1, 1) and got.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, 0.562335),  # 0.25 · 1.386294 + 0.75 · 0.287682
        (2.0, 0.656806),  # 0.366025 · 1.005053 + 0.633975 · 0.455746
    ],
)
def test_entropy_golden(temperature: float, expected: float) -> None:
    assert entropy(LOGITS, temperature).item() == pytest.approx(expected, abs=1e-6)


def test_entropy_of_a_uniform_distribution_is_the_log_of_its_size() -> None:
    assert entropy(torch.full((1, 1, 8), 4.0)).item() == pytest.approx(2.079442, abs=1e-6)  # ln 8


def test_rows_and_positions_pick_their_own_token() -> None:
    logits = torch.tensor([[[0.0, 100.0], [100.0, 0.0]], [[100.0, 0.0], [0.0, 100.0]]])
    got = logprobs_of_tokens(logits, torch.tensor([[1, 1], [0, 1]]))
    assert got.tolist() == [[0.0, -100.0], [0.0, 0.0]]


def test_16_bit_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 1, 50_000, dtype=torch.bfloat16)
    got = logprobs_of_tokens(logits, torch.tensor([[7]]))
    assert got.dtype == torch.float32 and got.item() == pytest.approx(-10.819778, abs=1e-4)  # −ln 50000
