"""The formulas of the InstructGPT reproduction's document, written out plainly, against ours: where they agree.

Named as there: compute_rewards, get_advantages_and_returns, actor_loss_fn, critic_loss_fn. Its constants: kl_ctl 0.1,
clip_reward_value 5, gamma 1, lam 0.95, cliprange 0.2, cliprange_value 0.2.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import Tensor

from trlx.data.default_configs import default_ppo_config
from trlx.functional.advantages import gae
from trlx.functional.kl import kl_shaped_rewards
from trlx.functional.masking import masked_moments, mean_and_variance, whiten
from trlx.functional.ppo import policy_loss_sum, value_loss_sum
from trlx.generation.sampling import Generated
from trlx.trainer.rollout import RolloutCollector
from trlx.trainer.scoring import Scores
from trlx.utils.moments import RunningMoments

KL_CTL, CLIP_REWARD, GAMMA, LAM, CLIP, CLIP_VALUE = 0.1, 5.0, 1.0, 0.95, 0.2, 0.2
# Three responses of 3, 2 and 1 tokens; pads hold what must not matter.
LENGTHS = (3, 2, 1)
MASK = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
SCORES = torch.tensor([7.5, -0.25, -9.0])  # two of them beyond the clip
LOGPROBS = torch.tensor([[-1.0, -0.5, -2.0], [-0.2, -1.4, -9.0], [-0.7, 4.0, 4.0]])
REF_LOGPROBS = torch.tensor([[-1.3, -0.5, -1.0], [-0.6, -1.0, -1.0], [-0.2, 0.0, 0.0]])
OLD_VALUES = torch.tensor([[0.5, -0.5, 1.0], [0.2, 0.4, 0.0], [-1.0, 0.0, 0.0]])
NEW_LOGPROBS = LOGPROBS + torch.tensor([[0.3, -0.4, 0.0], [-0.1, 0.5, 1.0], [0.05, 2.0, 2.0]])
NEW_VALUES = OLD_VALUES + torch.tensor([[0.5, -0.1, -0.6], [0.3, 0.1, 5.0], [-0.4, 5.0, 5.0]])


def document_rewards() -> Tensor:
    rewards = -KL_CTL * (LOGPROBS - REF_LOGPROBS)
    clipped = torch.clamp(SCORES, -CLIP_REWARD, CLIP_REWARD)
    for row, length in enumerate(LENGTHS):
        rewards[row, length - 1] += clipped[row]
    return rewards * MASK


def document_advantages(rewards: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    following, backwards = torch.zeros(len(rewards)), []
    for t in range(rewards.shape[1] - 1, -1, -1):
        value_after = values[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        delta = rewards[:, t] + GAMMA * value_after - values[:, t]
        following = delta + GAMMA * LAM * following
        backwards.append(following)
    advantages = torch.stack(backwards[::-1], dim=1)
    return advantages, advantages + values


def document_actor_loss(advantages: Tensor) -> Tensor:
    ratio = torch.exp((NEW_LOGPROBS - LOGPROBS) * MASK)
    worse = torch.max(-advantages * ratio, -advantages * torch.clamp(ratio, 1 - CLIP, 1 + CLIP))
    return torch.sum(worse * MASK) / MASK.sum()


def document_critic_loss(returns: Tensor) -> Tensor:
    near = torch.clamp(NEW_VALUES, OLD_VALUES - CLIP_VALUE, OLD_VALUES + CLIP_VALUE)
    worse = torch.max((NEW_VALUES - returns) ** 2, (near - returns) ** 2)
    return 0.5 * torch.sum(worse * MASK) / MASK.sum()


def our_rewards() -> Tensor:
    scores = Scores([[score] for score in SCORES.tolist()], dense=False)
    made = Generated(response=MASK.long(), response_mask=MASK, ended=torch.ones(len(MASK), dtype=torch.bool))
    changes = {"cliprange_reward": CLIP_REWARD, "scale_reward": None, "missing_eos_penalty": None}
    method = default_ppo_config().evolve(method=changes).method
    collector = SimpleNamespace(method=method, moments=RunningMoments(), ref_mean=None, ref_std=None)
    clipped = RolloutCollector.shape_scores(cast(RolloutCollector, collector), scores, scores, made)
    return kl_shaped_rewards(clipped, LOGPROBS, REF_LOGPROBS, MASK, KL_CTL)[0]


def test_rewards() -> None:
    torch.testing.assert_close(our_rewards(), document_rewards())
    # By hand. Row 0: −0.1·0.3, 0, −0.1·(−1) + 5. Row 1: −0.1·0.4, −0.1·(−0.4) − 0.25. Row 2: −0.1·(−0.5) − 5.
    expected = torch.tensor([[-0.03, 0.0, 5.1], [-0.04, -0.21, 0.0], [-4.95, 0.0, 0.0]])
    torch.testing.assert_close(our_rewards(), expected)


def test_advantages_and_returns() -> None:
    rewards = document_rewards()
    # The document has no mask here: what comes after a response must be 0 for it, and does not matter to us.
    ours = gae(rewards + 3.0 * ~MASK, OLD_VALUES + 7.0 * ~MASK, MASK, GAMMA, LAM)
    document = document_advantages(rewards, OLD_VALUES)
    torch.testing.assert_close(ours[0], document[0] * MASK)
    torch.testing.assert_close(ours[1], document[1] * MASK)
    # By hand, row 1: δ₁ = −0.21 − 0.4 = −0.61, δ₀ = −0.04 + 0.4 − 0.2 = 0.16, A₀ = 0.16 + 0.95·(−0.61) = −0.4195.
    assert ours[0][1].tolist() == pytest.approx([-0.4195, -0.61, 0.0], abs=1e-6)
    assert ours[1][1].tolist() == pytest.approx([-0.2195, -0.21, 0.0], abs=1e-6)


def test_losses() -> None:
    advantages, returns = document_advantages(document_rewards(), OLD_VALUES)
    actor = policy_loss_sum(NEW_LOGPROBS, LOGPROBS, advantages, MASK, CLIP)[0] / MASK.sum()
    critic = value_loss_sum(NEW_VALUES, OLD_VALUES, returns, MASK, CLIP_VALUE)[0] / MASK.sum()
    torch.testing.assert_close(actor, document_actor_loss(advantages))
    torch.testing.assert_close(critic, document_critic_loss(returns))  # ½ is in both


def test_where_they_differ_whitening() -> None:
    """The document's actor takes the advantages as they are; ours have mean 0 and variance 1 over a phase's tokens."""
    advantages, _ = document_advantages(document_rewards(), OLD_VALUES)
    moments = mean_and_variance(*masked_moments(advantages, MASK))
    white = whiten(advantages, MASK, *moments)
    assert white[MASK].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert white[MASK].var(unbiased=False).item() == pytest.approx(1.0, abs=1e-5)
    ours = policy_loss_sum(NEW_LOGPROBS, LOGPROBS, white, MASK, CLIP)[0] / MASK.sum()
    assert (ours - document_actor_loss(advantages)).abs() > 0.1


def test_where_they_differ_microbatches() -> None:
    """The document's mean is over each microbatch; ours divides by the tokens of all: rows 0 and 1 apart, 3 and 2."""
    advantages, _ = document_advantages(document_rewards(), OLD_VALUES)

    def sums(rows: slice) -> Tensor:
        return policy_loss_sum(NEW_LOGPROBS[rows], LOGPROBS[rows], advantages[rows], MASK[rows], CLIP)[0]

    first, second, both = sums(slice(0, 1)), sums(slice(1, 2)), sums(slice(0, 2))
    torch.testing.assert_close((first + second) / 5, both / 5)
    assert ((first / 3 + second / 2) / 2 - both / 5).abs() > 1e-3
