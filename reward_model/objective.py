"""What the reward model is trained for and judged by, on batches of `reward_model.pairs.PairCollator`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from trlx.functional.preference import first_divergence, first_divergence_loss, pair_accuracy, pairwise_loss

LossName = Literal["last_token", "first_divergence"]
METRICS = ("loss", "accuracy", "accuracy_noise_free", "chosen_score", "rejected_score")


@dataclass(frozen=True)
class PairObjective:
    """Loss and metrics of a batch of pairs.

    Args:
        loss: `last_token` scores each side at its EOS; `first_divergence` is trlX's mean over the tokens from the first
            difference on. Either way accuracy compares the scores at EOS.
        head: the model's score head, watched for the scores of single tokens.
    """

    loss: LossName
    head: nn.Module

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """Mean loss over the B pairs; `model` may be wrapped for DDP or DeepSpeed, whose own forward runs.

        `num_items_in_batch` counts labelled tokens, of which pairs have none.
        """
        return self._forward(model, batch)[0]

    def measure(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
        """Sums of an evaluation batch: loss, accuracy (a tie is half right), accuracy against noise-free labels where
        known, and the raw scores of both sides."""
        loss, chosen, rejected = self._forward(model, batch)
        right, gold = pair_accuracy(chosen, rejected), batch["gold"]
        known = gold.isfinite()
        by_gold = (gold * right + (1 - gold) * (1 - right))[known]
        pairs = float(len(right))
        return {
            "loss": (loss.item() * pairs, pairs),
            "accuracy": (right.sum().item(), pairs),
            "accuracy_noise_free": (by_gold.sum().item(), float(known.sum())),
            "chosen_score": (chosen.sum().item(), pairs),
            "rejected_score": (rejected.sum().item(), pairs),
        }

    def _forward(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, chosen scores (B,), rejected scores (B,))."""
        seen: list[Any] = []
        hook = self.head.register_forward_hook(lambda _, __, output: seen.append(output))
        try:
            output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        finally:
            hook.remove()
        chosen, rejected = output.logits[:, 0].float().chunk(2)
        if self.loss == "last_token":
            return pairwise_loss(chosen, rejected), chosen, rejected
        chosen_tokens, rejected_tokens = seen[-1][..., 0].chunk(2)
        counts = first_divergence(*batch["input_ids"].chunk(2), *batch["attention_mask"].chunk(2))
        return first_divergence_loss(chosen_tokens, rejected_tokens, counts), chosen, rejected
