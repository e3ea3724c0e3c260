"""The settings of a training method, and the registry of methods by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trlx.functional.advantages import gae
from trlx.functional.kl import KLPenalty
from trlx.functional.masking import masked_moments, masked_spread, masked_sum, mean_and_variance, whiten
from trlx.functional.ppo import policy_loss_sum, value_loss_sum
from trlx.utils.registry import Registry
from trlx.utils.strict import build

_METHODS = Registry("method")
register_method = _METHODS.register
# The modules that register this package's other methods.
_MODULES = ("ilql_config", "sft_config", "rft_config")


def get_method(name: str) -> Any:
    """The settings' class registered as `name`, in any case. Raises: UserError naming the nearest known one."""
    for module in _MODULES:
        importlib.import_module(f"trlx.data.{module}")
    return _METHODS.find(name)


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
        cliprange_reward: scores are clipped to ± this before scaling; null leaves them.
        gen_kwargs: transformers' generation options, for evaluation and rollouts.
        gen_experience_kwargs: replaces `gen_kwargs` in rollouts when given.
        num_value_layers_unfrozen: 0 for a value head on the policy's last hidden state; n > 0 for a branch that
            has copies of the top n blocks to itself. A critic of its own is `model.critic_path`.
        missing_eos_penalty: score that replaces a response's own when it was cut before its end; null leaves it.
        max_grad_norm: gradients are clipped to this global norm; null leaves them.
        target_kl: end a phase's training when an optimizer step's mean `policy/approx_kl` (nats a token, to the policy
            that wrote the rollouts) exceeds this; null never does.
        cache_trunk: keep the output of the frozen bottom blocks for a phase, so that training runs only the others.
        kl_penalty: what a token's reward loses, times β, with d = log π − log π_ref: "kl" d, "abs" |d|, "mse" d²/2. The
            controller and the curves of `policy/kl` have d whichever it is.
        ptx_coef: γ, weight of the mean cross-entropy (nats a token) of pretraining texts, which `trlx.train` takes as
            `ptx_texts`; 0 mixes none in (Ouyang et al. 2022, arXiv 2203.02155, equation 2).
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
    cliprange_reward: float | None
    gen_kwargs: dict[str, Any]
    gen_experience_kwargs: dict[str, Any] | None = None
    num_value_layers_unfrozen: int = 0
    missing_eos_penalty: float | None = None
    max_grad_norm: float | None = None
    target_kl: float | None = None
    cache_trunk: bool = True
    kl_penalty: KLPenalty = "kl"
    ptx_coef: float = 0.0

    def get_advantages_and_returns(
        self,
        values: Tensor,
        rewards: Tensor,
        response_length: int | None = None,
        use_whitening: bool = True,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Advantages and returns, both (B, R); see `gae`.

        Args:
            values, rewards: (B, R).
            response_length: how many of the R places are real, in every row; None for all.
            use_whitening: scale the advantages to mean 0 and variance 1 over this call's real tokens.
            mask: (B, R), True = real response token; instead of `response_length`, for rows of different lengths.
        """
        if mask is None:
            mask = torch.ones_like(values, dtype=torch.bool)
            mask[:, response_length:] = response_length is None
        advantages, returns = gae(rewards, values, mask, self.gamma, self.lam)
        if use_whitening:
            mean, variance = mean_and_variance(*masked_moments(advantages, mask))
            advantages = whiten(advantages, mask, mean, variance)
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
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The PPO loss of one batch, a mean over its real tokens, and flat statistics over them (scalar tensors).

        Args:
            logprobs, values: (B, R) of the policy in training. mask: (B, R), True or 1 = real response token.
            old_logprobs, old_values: (B, R) of the policy that wrote the responses. advantages, returns: (B, R).
        """
        mask = mask.bool()
        count = mask.sum().clamp(min=1)
        policy, ratio, clipped = policy_loss_sum(logprobs, old_logprobs, advantages, mask, self.cliprange)
        value, value_clipped = value_loss_sum(values, old_values, returns, mask, self.cliprange_value)
        loss = (policy + self.vf_coef * value) / count
        with torch.no_grad():
            log_ratio = logprobs - old_logprobs
            error = values - returns
            means = {
                "values/values_error": error.square(),
                "values/values_mape_error": error.abs() / returns.abs().clamp(min=1e-2),
                "values/clipfrac": value_clipped,
                "policy/approx_kl": ratio - 1.0 - log_ratio,
                "policy/clipfrac": clipped,
                "policy/log_ratio_gap": log_ratio.abs(),
                "ratio": ratio,
            }
            stats = {
                "losses/total_loss": loss,
                "losses/policy_loss": policy / count,
                "losses/value_loss": value / count,
                **{name: masked_sum(each.float(), mask) / count for name, each in means.items()},
            }
            for name, each in (("values", values), ("old_values", old_values), ("returns", returns)):
                stats |= {f"{name}/{kind}": number for kind, number in masked_spread(each, mask).items()}
        return loss, {name: number.detach() for name, number in stats.items()}
