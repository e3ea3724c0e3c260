"""The SFT loss: cross-entropy of the labelled tokens, each weighing the same over microbatches and ranks.

The head maps to the vocabulary only where a token is labelled; over whole prompts that would be most of the memory.
Left out: label smoothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sft.collator import IGNORED


@dataclass(frozen=True)
class SummaryObjective:
    """Loss and metrics of a batch of `sft.collator.SummaryCollator`.

    Args:
        head: the model's output layer, hidden state → vocabulary.
        world_size: ranks whose gradients are averaged.
    """

    head: nn.Module
    world_size: int = 1

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """Nats of this microbatch over the labelled tokens of the optimizer step; a scalar.

        Args:
            model: may be wrapped for DDP or DeepSpeed, whose own forward runs.
            num_items_in_batch: labelled tokens of all microbatches and ranks; None for this batch's own mean.
        """
        total, count = self._nll(model, batch)
        if num_items_in_batch is None:
            return total / max(count, 1)
        # Gradients are averaged over ranks, while this divisor counts the tokens of all of them.
        return total * self.world_size / num_items_in_batch

    def measure(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
        """The evaluation's sums: nats over labelled tokens."""
        total, count = self._nll(model, batch)
        return {"loss": (total.item(), float(count))}

    def _nll(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """(summed cross-entropy in nats, float32; number of labelled tokens)."""
        labels = batch["labels"]
        predicts = F.pad(labels[:, 1:] != IGNORED, (0, 1), value=False)  # position t predicts token t + 1
        with only_positions(self.head, predicts):
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        targets = labels[labels != IGNORED]
        return F.cross_entropy(output.logits.float(), targets, reduction="sum"), len(targets)


@contextmanager
def only_positions(head: nn.Module, keep: Tensor) -> Iterator[None]:
    """Within it `head` sees only the kept positions, so that a model's logits are (N, V) instead of (B, T, V).

    Args:
        head: the output layer.
        keep: (B, T) bool, N of them True; rows keep their order.
    """
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][keep],))
    try:
        yield
    finally:
        hook.remove()
