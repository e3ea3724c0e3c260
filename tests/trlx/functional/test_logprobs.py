"""Log-probabilities and entropy of a distribution over two tokens whose numbers are worked by hand."""

import math

import pytest
import torch

import trlx.functional.logprobs as logprobs_module
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


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("rows", [1, 7])
def test_values_and_gradients_are_those_of_a_plain_log_softmax(
    temperature: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprobs_module, "_CACHE_NUMBERS", 3 * 11)  # three rows at a time
    generator = torch.Generator().manual_seed(rows)
    logits = (3 * torch.randn(rows, 2, 11, generator=generator)).requires_grad_()
    tokens = torch.randint(0, 11, (rows, 2), generator=generator)
    weights = torch.randn(rows, 2, generator=generator)

    plain = (logits / temperature).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    (expected,) = torch.autograd.grad((plain * weights).sum(), logits)
    ours = logprobs_of_tokens(logits, tokens, temperature)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), logits)
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)
    spread = torch.distributions.Categorical(logits=logits.detach() / temperature).entropy()
    torch.testing.assert_close(entropy(logits, temperature), spread, atol=1e-5, rtol=1e-5)


def test_half_precision_logits_get_half_precision_gradients() -> None:
    logits = torch.randn(3, 11, dtype=torch.bfloat16).requires_grad_()
    result = logprobs_of_tokens(logits, torch.tensor([0, 5, 10]))
    result.sum().backward()
    assert result.dtype == torch.float32 and logits.grad is not None and logits.grad.dtype == torch.bfloat16


def test_half_precision_gradients_of_confident_tokens_keep_their_digits() -> None:
    logits = torch.zeros(1, 50, dtype=torch.bfloat16)
    logits[0, 7] = 12.0  # its probability is 1 − 3.0e-4
    exact = logits.double().requires_grad_()
    exact.log_softmax(-1)[0, 7].backward()
    ours = logits.clone().requires_grad_()
    logprobs_of_tokens(ours, torch.tensor([7])).sum().backward()
    assert exact.grad is not None and ours.grad is not None
    torch.testing.assert_close(ours.grad[0, 7].double(), exact.grad[0, 7], rtol=1e-2, atol=0)
