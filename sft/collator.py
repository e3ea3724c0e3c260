"""From encoded posts to batches: right-padded ids, and labels on the summary alone.

Which tokens are padding is known from lengths and never guessed from the pad id, so pad = EOS is fine: the EOS that
ends a summary is learned, the padding after it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100  # the label that transformers' losses leave out


@dataclass(frozen=True)
class SummaryCollator:
    """Batches samples of `prompt_ids`, `response_ids` (ending in EOS) and `row`.

    Args:
        pad_token_id: fills ids on the right.
        loss_on_prompt: label the prompt's tokens too; by default only the response's.
    """

    pad_token_id: int
    loss_on_prompt: bool = False

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns `input_ids`, `attention_mask` (1 = real) and `labels` (−100 = no loss), each (B, T) long and not
        shifted, T the longest sample; and `rows` (B,), the samples' indices."""
        width = max(len(sample["prompt_ids"]) + len(sample["response_ids"]) for sample in samples)
        ids = torch.full((len(samples), width), self.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, IGNORED)
        for index, sample in enumerate(samples):
            tokens = torch.tensor([*sample["prompt_ids"], *sample["response_ids"]])
            # The first token of all has nothing before it to be predicted from.
            first = 1 if self.loss_on_prompt else max(1, len(sample["prompt_ids"]))
            ids[index, : len(tokens)] = tokens
            mask[index, : len(tokens)] = 1
            labels[index, first : len(tokens)] = tokens[first:]
        rows = torch.tensor([sample["row"] for sample in samples])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "rows": rows}
