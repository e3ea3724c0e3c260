"""ILQL's heads on a transformer's hidden states: V, one or two Q with their slow targets."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from trlx.functional.ilql import at_positions, polyak_, steered_logits
from trlx.models.heads import make_head
from trlx.utils.zero import gathered

Outputs = tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]


class ILQLHeads(nn.Module):
    """The heads of Snell et al. 2022, section 4.

    Args:
        hidden_size: H. vocab_size: V, an output of a Q head a token. two_qs: two Q heads rather than one.
        alpha: share of the Q heads in their targets' next state. dtype: of the weights.

    Attributes:
        v_head, q_heads: train. target_q_heads: copies of `q_heads` at the start, which follow them slowly.
    """

    def __init__(
        self, hidden_size: int, vocab_size: int, two_qs: bool, alpha: float, dtype: torch.dtype = torch.float32
    ):
        super().__init__()
        self.hidden_size, self.vocab_size, self.two_qs, self.alpha = hidden_size, vocab_size, two_qs, alpha
        self.v_head = make_head(hidden_size, 1, dtype)
        self.q_heads = nn.ModuleList(make_head(hidden_size, vocab_size, dtype) for _ in range(2 if two_qs else 1))
        self.target_q_heads: nn.ModuleList = copy.deepcopy(self.q_heads).requires_grad_(False)
        self._precise: list[Tensor] = []  # the targets in float32, where the weights are of fewer bits

    def forward(self, hs: Tensor, states_ixs: Tensor | None = None, actions_ixs: Tensor | None = None) -> Outputs:
        """(Q values, target Q values without gradient, V).

        Args:
            hs: (B, T, H) hidden states. states_ixs: (B, S) positions for V. actions_ixs: (B, A) positions for Q; both
                all T positions when None.

        Returns: ((B, A, V) a Q head, (B, A, V) a target head, (B, S, 1)).
        """
        of_states = hs if states_ixs is None else at_positions(hs, states_ixs)
        of_actions = hs if actions_ixs is None else at_positions(hs, actions_ixs)
        with torch.no_grad():
            targets = tuple(head(of_actions) for head in self.target_q_heads)
        return tuple(head(of_actions) for head in self.q_heads), targets, self.v_head(of_states)

    @torch.no_grad()
    def steer(self, logits: Tensor, hs: Tensor, beta: float) -> Tensor:
        """(..., V) logits of the language model as `steered_logits` changes them, from the states (..., H) before."""
        return steered_logits(logits, [head(hs) for head in self.target_q_heads], self.v_head(hs), beta)

    def sync_target_q_heads(self) -> None:
        """target ← α · Q + (1 − α) · target. Under ZeRO stage 3 a collective: every rank must call it.

        A small α is lost in the rounding of 16-bit weights, so the targets are then kept in float32 as well.
        """
        with gathered([*self.target_q_heads.parameters(), *self.q_heads.parameters()], modifier_rank=0):
            targets = [parameter.data for parameter in self.target_q_heads.parameters()]
            sources = [parameter.data for parameter in self.q_heads.parameters()]
            if all(target.dtype == torch.float32 for target in targets):
                polyak_(targets, sources, self.alpha)
                return
            self._precise = self._precise or [target.float() for target in targets]
            polyak_(self._precise, sources, self.alpha)
            for target, precise in zip(targets, self._precise, strict=True):
                target.copy_(precise)
