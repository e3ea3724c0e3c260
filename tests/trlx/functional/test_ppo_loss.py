"""The clipped objectives: each side of each clip worked by hand, and invariances that training relies on."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.data.default_configs import default_ppo_config
from trlx.data.method_configs import PPOConfig
from trlx.functional.ppo import explained_variance, policy_loss_sum, value_loss_sum

NAN = float("nan")


def test_policy_loss_golden() -> None:
    ratios = torch.tensor([[1.5, 0.5, NAN], [0.5, 1.5, 1.0]])
    advantages = torch.tensor([[1.0, 1.0, NAN], [-2.0, -2.0, 3.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    old = torch.full((2, 3), -0.7)
    loss, ratio, clipped = policy_loss_sum(old + ratios.log(), old, advantages, mask, cliprange=0.2)
    # A = 1:  ρ = 1.5 → max(−1.5, −1.2) = −1.2, clipped;   ρ = 0.5 → max(−0.5, −0.8) = −0.5, free
    # A = −2: ρ = 0.5 → max(1.0, 1.6) = 1.6, clipped;      ρ = 1.5 → max(3.0, 2.4) = 3.0, free
    # A = 3:  ρ = 1   → −3
    assert loss.item() == pytest.approx(-1.2 - 0.5 + 1.6 + 3.0 - 3.0, abs=1e-5)
    assert clipped.tolist() == [[True, False, False], [True, False, False]]
    assert ratio[0, 2].item() == 1.0


def test_the_clip_stops_the_gradient_only_where_it_decides() -> None:
    logprobs = torch.tensor([[1.5, 0.5, 0.5, 1.5]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -2.0, -2.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    policy_loss_sum(logprobs, torch.zeros(1, 4), advantages, mask, 0.2)[0].backward()
    # d(−A·ρ)/d log π = −A·ρ where the clip does not decide: −0.5 and 3
    assert logprobs.grad is not None
    assert logprobs.grad.tolist()[0] == pytest.approx([0.0, -0.5, 0.0, 3.0], abs=1e-6)


def test_value_loss_golden() -> None:
    values = torch.tensor([[1.0, 1.0, 1.0, NAN]])
    old_values = torch.tensor([[0.5, 0.5, 0.9, NAN]])
    returns = torch.tensor([[0.0, 2.0, 3.0, NAN]])
    mask = torch.tensor([[True, True, True, False]])
    loss, clipped = value_loss_sum(values, old_values, returns, mask, cliprange_value=0.2)
    # clip(1, .5 ± .2) = .7: max(1, .49) = 1, free;  max(1, 1.3² = 1.69) = 1.69, clipped;  |1 − .9| < .2: 4, free
    assert loss.item() == pytest.approx(0.5 * (1.0 + 1.69 + 4.0), abs=1e-6)
    assert clipped.tolist() == [[False, True, False, False]]


def test_value_clip_works_in_both_directions() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    # V fell from 2 to 1 while the return is 0.5: the clip holds it at 1.8, (1.8 − 0.5)² = 1.69 > 0.25
    loss, clipped = value_loss_sum(torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[0.5]]), mask, 0.2)
    assert loss.item() == pytest.approx(0.845, abs=1e-6) and clipped.item() is True


def test_explained_variance_golden() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, NAN]]), torch.tensor([[True, True, True, False]])
    values = torch.tensor([[1.0, 2.0, 4.0, NAN]])
    # residuals 0, 0, −1 have variance 1/3 − 1/9 = 2/9; returns have 2/3
    assert explained_variance(values, returns, mask).item() == pytest.approx(0.6666667, abs=1e-6)
    assert explained_variance(returns, returns, mask).item() == 1.0
    assert explained_variance(torch.full((1, 4), 9.0), returns, mask).item() == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(values, torch.ones(1, 4), mask).item() == 0.0  # no variance to explain


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=8))
def test_at_ratio_1_the_policy_loss_is_minus_the_advantages(advantages: list[float]) -> None:
    row = torch.tensor([advantages], dtype=torch.float64)
    mask = torch.ones_like(row, dtype=torch.bool)
    logprobs = torch.full_like(row, -1.3).requires_grad_()
    loss, ratio, clipped = policy_loss_sum(logprobs, logprobs.detach(), row, mask, 0.2)
    assert loss.item() == pytest.approx(-math.fsum(advantages), abs=1e-9)
    assert ratio.eq(1).all() and not clipped.any()
    loss.backward()
    torch.testing.assert_close(logprobs.grad, -row)  # the policy gradient itself


lengths = st.lists(st.integers(1, 5), min_size=2, max_size=5)


@given(lengths, st.integers(0, 3), st.integers(1, 4), st.integers(0, 2**31))
def test_loss_sums_add_up_over_any_split_and_ignore_pads(sizes: list[int], extra: int, cut: int, seed: int) -> None:
    width = max(sizes) + extra
    mask = torch.arange(width) < torch.tensor(sizes).unsqueeze(1)
    parts = torch.randn(5, len(sizes), width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    dirty = torch.where(mask, parts, torch.full_like(parts, NAN))
    cut = min(cut, len(sizes) - 1)

    def loss(values: torch.Tensor, rows: slice) -> float:
        logprobs, old, advantages, v, returns = (part[rows] for part in values)
        policy, _, _ = policy_loss_sum(logprobs, old, advantages, mask[rows], 0.2)
        value, _ = value_loss_sum(v, old, returns, mask[rows], 0.2)
        return (policy + 0.3 * value).item()

    whole = loss(parts, slice(None))
    assert loss(dirty, slice(None)) == whole
    assert loss(dirty, slice(cut)) + loss(dirty, slice(cut, None)) == pytest.approx(whole, abs=1e-9)


def test_pads_give_no_gradient() -> None:
    mask = torch.tensor([[True, False]])
    logprobs = torch.tensor([[-1.0, 50.0]], requires_grad=True)
    values = torch.tensor([[1.0, 50.0]], requires_grad=True)
    policy, _, _ = policy_loss_sum(logprobs, torch.tensor([[-1.1, -3.0]]), torch.tensor([[1.0, 2.0]]), mask, 0.2)
    value, _ = value_loss_sum(values, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 9.0]]), mask, 0.2)
    (policy + value).backward()
    for gradient in (logprobs.grad, values.grad):
        assert gradient is not None and gradient[0, 1].item() == 0.0 and gradient[0, 0].item() != 0.0


def method(**overrides: float) -> PPOConfig:
    config = default_ppo_config().method
    assert isinstance(config, PPOConfig)
    return dataclasses.replace(config, cliprange=0.2, cliprange_value=0.2, **overrides)  # type: ignore[arg-type]


def test_the_method_s_loss_is_a_mean_over_real_tokens() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    ratios = torch.tensor([[1.5, 1.0, NAN], [0.5, NAN, NAN]])
    old = torch.full((2, 3), -0.7)
    values = torch.tensor([[1.0, 2.0, NAN], [3.0, NAN, NAN]])
    returns = torch.tensor([[0.0, 2.0, NAN], [1.0, NAN, NAN]])
    loss, stats = method(vf_coef=0.5).loss(
        logprobs=old + ratios.log(),
        values=values,
        old_logprobs=old,
        old_values=values,
        advantages=torch.tensor([[1.0, 3.0, NAN], [-2.0, NAN, NAN]]),
        returns=returns,
        mask=mask,
    )
    # policy: max(−1.5, −1.2) = −1.2, −3, max(1, 1.6) = 1.6: −2.6 of 3 tokens; value: ½ (1 + 0 + 4) = 2.5 of 3 tokens
    assert loss.item() == pytest.approx(-2.6 / 3 + 0.5 * 2.5 / 3, abs=1e-6)
    expected = {
        "losses/total_loss": -2.6 / 3 + 1.25 / 3,
        "losses/policy_loss": -2.6 / 3,
        "losses/value_loss": 2.5 / 3,
        "values/values_error": (1 + 0 + 4) / 3,
        "values/values_mape_error": (1 / 0.01 + 0 + 2 / 1) / 3,
        "values/mean": 2.0,
        "values/min": 1.0,
        "values/max": 3.0,
        "values/std": math.sqrt(2 / 3),
        "old_values/mean": 2.0,
        "returns/mean": 1.0,
        "returns/min": 0.0,
        "values/clipfrac": 0.0,
        "policy/clipfrac": 2 / 3,
        "ratio": 1.0,
        # ρ − 1 − ln ρ: 0.5 − 0.405465, 0, −0.5 + 0.693147
        "policy/approx_kl": (0.094535 + 0 + 0.193147) / 3,
        "policy/log_ratio_gap": (0.405465 + 0.693147) / 3,
    }
    for name, number in expected.items():
        assert stats[name].item() == pytest.approx(number, abs=2e-6), name


def test_the_method_s_loss_of_no_tokens_is_0() -> None:
    nothing = torch.full((1, 2), NAN)
    loss, _ = method().loss(nothing, nothing, nothing, nothing, nothing, nothing, torch.zeros(1, 2))
    assert loss.item() == 0.0


def test_the_method_s_advantages() -> None:
    config = method(gamma=1.0, lam=0.5)
    values, rewards = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[0.5, 3.0, 9.0]])
    # two real places: δ₁ = 3 − 2 = 1; δ₀ = 0.5 + 2 − 1 = 1.5, A₀ = 1.5 + 0.5 · 1 = 2
    for length in ({"response_length": 2}, {"mask": torch.tensor([[True, True, False]])}):
        advantages, returns = config.get_advantages_and_returns(values, rewards, use_whitening=False, **length)  # type: ignore[arg-type]
        assert advantages.tolist() == [[2.0, 1.0, 0.0]] and returns.tolist() == [[3.0, 3.0, 0.0]]
        # mean 1.5, standard deviation 0.5
        whitened, _ = config.get_advantages_and_returns(values, rewards, **length)  # type: ignore[arg-type]
        assert whitened.tolist()[0] == pytest.approx([1.0, -1.0, 0.0], abs=1e-6)
