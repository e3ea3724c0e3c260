"""The SFT loss: cross-entropy of the labelled tokens, each weighing the same over microbatches and ranks."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sft.collator import IGNORED


def token_nll(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the labelled tokens and how many there are.

    Args:
        logits: (B, T, V); position t predicts token t + 1.
        labels: (B, T), not shifted, −100 = no loss.

    Returns: (sum in nats, float32; count), both scalars.
    """
    targets = labels[:, 1:]
    counted = targets != IGNORED
    # Only the labelled positions are brought to float32: over a whole vocabulary that is most of the memory.
    picked = logits[:, :-1][counted].float()
    return F.cross_entropy(picked, targets[counted], reduction="sum"), counted.sum()


def summary_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Trainer's `compute_loss_func`: the sum over this microbatch divided by the optimizer step's labelled tokens.

    Args:
        outputs: of a causal language model, with `logits`.
        labels: (B, T) as in `token_nll`.
        num_items_in_batch: labelled tokens of all microbatches and ranks of the step; None for this batch's own.
    """
    total, count = token_nll(outputs.logits, labels)
    return total / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)


def measure_summary_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """The evaluation's sums: nats over labelled tokens."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    total, count = token_nll(logits, batch["labels"])
    return {"loss": (total.item(), float(count))}
