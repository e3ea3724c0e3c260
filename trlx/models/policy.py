"""The policy with its value head and reference as one module, so that DDP or DeepSpeed wrap a single forward.

Left out: value branches of their own, separate critics, adapters, encoder-decoder models.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trlx.functional.logprobs import entropy, logprobs_of_tokens
from trlx.functional.masking import position_ids
from trlx.models.branches import FrozenCopies, Trunk, find_blocks, freeze_bottom


class PolicyOutput(TypedDict):
    """What one forward pass gives; B batch, R response, T prompt and response, H hidden."""

    logprobs: Tensor  # (B, R) nats, float32, of the response tokens under softmax(logits / temperature)
    values: Tensor  # (B, R) float32, V of the state before each response token
    ref_logprobs: Tensor | None  # (B, R) nats, of the frozen reference; with_reference only
    entropy: Tensor | None  # (B, R) nats; with_reference only
    trunk: Tensor | None  # (B, T, H) the frozen trunk's output, when there is one; with_reference only


def make_head(hidden: int, outputs: int) -> nn.Sequential:
    """Linear(H, 2H), ReLU, Linear(2H, outputs): trlX's head."""
    return nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, outputs))


class CausalLMPolicy(nn.Module):
    """A causal language model that trains from its top, a value head on its last hidden state, and a frozen reference.

    Args:
        base_model: transformers' causal language model, in float32 for training (wrappers lower the precision).
        num_layers_unfrozen: see `freeze_bottom`.
        cache_trunk: whether rollouts keep the frozen trunk's output, so that training runs only the blocks above it.
    """

    def __init__(self, base_model: PreTrainedModel, num_layers_unfrozen: int = -1, cache_trunk: bool = True):
        super().__init__()
        self.base_model = base_model
        self.v_head = make_head(self.hidden_size, 1)
        blocks = find_blocks(base_model)
        depth = freeze_bottom(base_model, num_layers_unfrozen)
        self.trunk = Trunk(base_model, depth) if depth > 0 and cache_trunk else None
        self.frozen_head = FrozenCopies(base_model, blocks)
        self._takes_positions = "position_ids" in inspect.signature(base_model.forward).parameters

    @property
    def hidden_size(self) -> int:
        """Width of the states that enter the output embeddings (OPT 350m projects them down first)."""
        return int(self.base_model.get_output_embeddings().weight.shape[1])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        response_length: int,
        temperature: float = 1.0,
        trunk: Tensor | None = None,
        with_reference: bool = False,
    ) -> PolicyOutput:
        """Log-probabilities and values of the last `response_length` tokens.

        Args:
            input_ids: (B, T) left-padded prompts followed by right-padded responses.
            attention_mask: (B, T), 1 = real token.
            response_length: R; the response is `input_ids[:, -R:]`.
            temperature: of the sampling distribution.
            trunk: (B, T, H) kept by an earlier pass over the same rows; only the blocks above are run then.
            with_reference: also return the reference's log-probabilities, the entropy and the trunk's output.
        """
        tokens = input_ids[:, -response_length:]
        inputs = self._inputs(input_ids, attention_mask, response_length)
        with self._keeping(with_reference) as kept, self._replaying(trunk):
            logits, hidden = self._last_layers(inputs)
        output: PolicyOutput = {
            "logprobs": logprobs_of_tokens(logits, tokens, temperature),
            "values": self.v_head(hidden).squeeze(-1).float(),
            "ref_logprobs": None,
            "entropy": None,
            "trunk": None,
        }
        if with_reference:
            output["trunk"] = kept[0] if kept else trunk
            with torch.no_grad(), self._replaying(output["trunk"]), self.frozen_head.in_place():
                ref_logits, _ = self._last_layers(inputs)
                output["ref_logprobs"] = logprobs_of_tokens(ref_logits, tokens, temperature)
                output["entropy"] = entropy(logits, temperature)
        return output

    def _inputs(self, input_ids: Tensor, attention_mask: Tensor, response_length: int) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        if self._takes_positions:
            inputs["position_ids"] = position_ids(attention_mask)
        # One more than the response: the token before it predicts its first.
        inputs["logits_to_keep"] = response_length + 1
        return inputs

    def _last_layers(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """(logits (B, R, V), hidden states (B, R, H) that gave them), at the positions that predict the response."""
        seen: list[Tensor] = []
        head = self.base_model.get_output_embeddings()
        handle = head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            logits = self.base_model(**inputs).logits
        finally:
            handle.remove()
        return logits[:, :-1], seen[0][:, :-1]

    def _keeping(self, wanted: bool) -> contextlib.AbstractContextManager[list[Tensor]]:
        return self.trunk.keeping() if self.trunk is not None and wanted else contextlib.nullcontext([])

    @contextlib.contextmanager
    def _replaying(self, state: Tensor | None) -> Iterator[None]:
        if self.trunk is None or state is None:
            yield
        else:
            with self.trunk.replaying(state.to(self.base_model.dtype)):
                yield
