"""How a prompt and a response enter a model: one after the other, or one on each side of an encoder-decoder."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trlx.functional.masking import position_ids


class CausalLayout:
    """Left-padded prompt and right-padded response as one row of T = P + R tokens."""

    def __init__(self, model: PreTrainedModel):
        taken = inspect.signature(model.forward).parameters
        self._takes_positions, self._keeps_some = "position_ids" in taken, "logits_to_keep" in taken

    def inputs(self, query: Tensor, query_mask: Tensor, response: Tensor, response_mask: Tensor) -> dict[str, Any]:
        """Keyword arguments of the model's forward, whose logits then cover what predicts the response, if it can."""
        mask = torch.cat([query_mask, response_mask], dim=1).long()
        inputs: dict[str, Any] = {
            "input_ids": torch.cat([query, response], dim=1),
            "attention_mask": mask,
            "use_cache": False,
        }
        if self._takes_positions:
            inputs["position_ids"] = position_ids(mask)
        if self._keeps_some:
            # Named rather than cut off afterwards, which would copy logits and their gradient. Counted from the end,
            # because virtual tokens may go before.
            inputs["logits_to_keep"] = torch.arange(-response.shape[1] - 1, -1, device=response.device)
        return inputs

    def predictions(self, outputs: Tensor, length: int) -> Tensor:
        """(B, R, ...): those of the outputs that predict a response of R = `length`."""
        return outputs if self._keeps_some else outputs[:, -length - 1 : -1]


class EncoderDecoderLayout:
    """The prompt in the encoder; in the decoder the start token and the response but its last token."""

    def __init__(self, model: PreTrainedModel):
        self.start = int(model.config.decoder_start_token_id)

    def inputs(self, query: Tensor, query_mask: Tensor, response: Tensor, response_mask: Tensor) -> dict[str, Any]:
        """Keyword arguments of the model's forward, whose outputs then cover the R response positions."""
        start = torch.full_like(response[:, :1], self.start)
        return {
            "input_ids": query,
            "attention_mask": query_mask.long(),
            "decoder_input_ids": torch.cat([start, response[:, :-1]], dim=1),
            "use_cache": False,
        }

    def predictions(self, outputs: Tensor, length: int) -> Tensor:
        """(B, R, ...): all of them."""
        return outputs


def layout_of(model: PreTrainedModel) -> CausalLayout | EncoderDecoderLayout:
    """The one that fits the model."""
    return EncoderDecoderLayout(model) if model.config.is_encoder_decoder else CausalLayout(model)
