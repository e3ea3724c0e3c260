"""ILQL's settings and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trlx.data.ilql_types import ILQLBatch, ILQLSeq2SeqBatch
from trlx.data.method_configs import MethodConfig, register_method
from trlx.functional.ilql import (
    at_positions,
    awac_weights,
    bellman_targets,
    expectile_loss_sum,
    of_tokens,
    q_loss_sum,
    token_loss_sum,
)
from trlx.functional.masking import masked_spread
from trlx.utils.errors import UserError

HeadOutputs = tuple[Any, Any, Tensor]  # (qs, target_qs, vs)


@dataclass
@register_method
class ILQLConfig(MethodConfig):
    """Implicit language Q-learning from samples with rewards (Snell et al. 2022, arXiv 2206.11871).

    Args:
        name: "ILQLConfig".
        tau: expectile of the Q values over actions that V learns; 0.5 their mean, towards 1 their maximum.
        gamma: discount of what follows an action.
        cql_scale: weight of the conservative term, which keeps Q low for tokens that the samples do not hold.
        awac_scale: weight of the behaviour cloning of the language model.
        alpha: share of the Q heads that a synchronisation mixes into their targets.
        beta: how much that cloning prefers actions of high advantage; 0 clones all alike. (The beta in `gen_kwargs` is
            how much generation does.)
        steps_for_target_q_sync: optimizer steps between synchronisations of the target Q heads.
        two_qs: two Q heads, of whose targets the smaller counts.
        gen_kwargs: options of generation: beta, top_k, temperature, max_new_tokens and transformers' others.

    Raises: UserError for a value out of range.
    """

    tau: float
    gamma: float
    cql_scale: float
    awac_scale: float
    alpha: float
    beta: float
    steps_for_target_q_sync: int
    two_qs: bool
    gen_kwargs: dict[str, Any]

    def __post_init__(self) -> None:
        for name in ("tau", "gamma", "alpha"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"method.{name} is {getattr(self, name)}: it must be between 0 and 1")
        if self.steps_for_target_q_sync < 1:
            raise UserError(f"method.steps_for_target_q_sync is {self.steps_for_target_q_sync}: it must be at least 1")

    def loss(
        self, outputs: tuple[Tensor, HeadOutputs], labels: ILQLBatch | ILQLSeq2SeqBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch, a mean over its real actions, and flat statistics over them (scalar tensors).

        Args:
            outputs: (logits (B, T, V), (qs, target_qs, vs)) of `labels`: Q values (B, A, V) a head, values (B, S, 1).
            labels: its `action_mask` says which actions are real.
        """
        logits, (qs, target_qs, vs) = outputs
        mask, actions = labels.action_mask, labels.actions
        count = mask.sum().clamp(min=1)
        q = [of_tokens(head, actions) for head in qs]
        target_q = torch.stack([of_tokens(head, actions).detach() for head in target_qs]).amin(dim=0)
        values, next_values = vs[:, :-1, 0].float(), vs[:, 1:, 0]
        targets = bellman_targets(labels.rewards, next_values, labels.dones[:, 1:].bool(), self.gamma)
        weights = awac_weights(target_q, values, self.beta)
        loss_q = torch.stack([q_loss_sum(each, targets, mask) for each in q]).sum() / count
        loss_v = expectile_loss_sum(values, target_q, mask, self.tau) / count
        loss_cql = torch.stack([token_loss_sum(head, actions, mask) for head in qs]).sum() / count
        loss_awac = token_loss_sum(at_positions(logits, labels.actions_ixs), actions, mask, weights) / count
        loss = loss_q + loss_v + self.cql_scale * loss_cql + self.awac_scale * loss_awac
        parts = {"loss": loss, "loss_q": loss_q, "loss_v": loss_v, "loss_cql": loss_cql, "loss_awac": loss_awac}
        stats = {f"losses/{name}": part.detach() for name, part in parts.items()}
        stats |= _spread("values", values, mask) | _spread("awac_weight", weights, mask)
        for index, each in enumerate(q):
            stats |= _spread(f"qvalues/{index}", each, mask)
        return loss, stats


def _spread(name: str, values: Tensor, mask: Tensor) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for key, value in masked_spread(values, mask).items()}
