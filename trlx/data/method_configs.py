"""The settings of a training method, and the registry of methods by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trlx.functional.advantages import gae
from trlx.functional.masking import masked_moments, mean_and_variance, whiten
from trlx.functional.ppo import policy_loss_sum, value_loss_sum
from trlx.utils.registry import Registry
from trlx.utils.strict import build

_METHODS = Registry("method")
register_method, get_method = _METHODS.register, _METHODS.find


@dataclass
@register_method
class MethodConfig:
    """The settings every method has."""

    name: str

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> Any:
        """Build from a dict; an unknown key raises UserError."""
        return build(cls, config, "method")


@dataclass
@register_method
class PPOConfig(MethodConfig):
    """Proximal policy optimisation with a KL penalty to a frozen reference (Ziegler et al. 2019).

    Args:
        name: "PPOConfig".
        ppo_epochs: passes over each phase's rollouts.
        num_rollouts: responses a process collects before it trains.
        chunk_size: prompts a process continues at once.
        init_kl_coef: the KL penalty's coefficient β at the start.
        target: KL in nats a response that the adaptive controller steers to; null keeps β fixed.
        horizon: samples over which the controller acts fully.
        gamma: discount of the rewards.
        lam: λ of generalized advantage estimation.
        cliprange: ε of the policy's clip.
        cliprange_value: ε of the value function's clip.
        vf_coef: weight of the value loss.
        scale_reward: "running" divides scores by their running standard deviation, "ref" by the first chunk's, anything
            else leaves them.
        ref_mean: mean of scores to report against; null takes the first chunk's.
        ref_std: standard deviation for "ref"; null takes the first chunk's.
        cliprange_reward: scores are clipped to ± this before scaling.
        gen_kwargs: transformers' generation options, for evaluation and rollouts.
        gen_experience_kwargs: replaces `gen_kwargs` in rollouts when given.
        num_value_layers_unfrozen: must be 0 (a value branch of its own is not available yet).
        missing_eos_penalty: score that replaces a response's own when it was cut before its end; null leaves it.
        max_grad_norm: gradients are clipped to this global norm; null leaves them.
        cache_trunk: keep the output of the frozen bottom blocks for a phase, so that training runs only the others.
    """

    ppo_epochs: int
    num_rollouts: int
    chunk_size: int
    init_kl_coef: float
    target: float | None
    horizon: int
    gamma: float
    lam: float
    cliprange: float
    cliprange_value: float
    vf_coef: float
    scale_reward: str | None
    ref_mean: float | None
    ref_std: float | None
    cliprange_reward: float
    gen_kwargs: dict[str, Any]
    gen_experience_kwargs: dict[str, Any] | None = None
    num_value_layers_unfrozen: int = 0
    missing_eos_penalty: float | None = None
    max_grad_norm: float | None = None
    cache_trunk: bool = True

    def get_advantages_and_returns(
        self, values: Tensor, rewards: Tensor, response_mask: Tensor, use_whitening: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Advantages (whitened over this call's real tokens) and returns, both (B, R); see `trlx.functional`."""
        advantages, returns = gae(rewards, values, response_mask, self.gamma, self.lam)
        if use_whitening:
            mean, variance = mean_and_variance(*masked_moments(advantages, response_mask))
            advantages = whiten(advantages, response_mask, mean, variance)
        return advantages.detach(), returns

    def loss(
        self,
        logprobs: Tensor,
        values: Tensor,
        old_logprobs: Tensor,
        old_values: Tensor,
        advantages: Tensor,
        returns: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, dict[str, float]]:
        """The PPO loss of one batch, a mean over its real tokens, and its parts. All arguments are (B, R)."""
        mask = mask.bool()
        count = mask.sum().clamp(min=1)
        policy, _, clipped = policy_loss_sum(logprobs, old_logprobs, advantages, mask, self.cliprange)
        value, value_clipped = value_loss_sum(values, old_values, returns, mask, self.cliprange_value)
        loss = (policy + self.vf_coef * value) / count
        stats = {
            "losses/total_loss": loss.item(),
            "losses/policy_loss": (policy / count).item(),
            "losses/value_loss": (value / count).item(),
            "policy/clipfrac": (clipped.sum() / count).item(),
            "values/clipfrac": (value_clipped.sum() / count).item(),
        }
        return loss, stats
