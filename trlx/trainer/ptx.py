"""The loss of pretraining texts that PPO can mix in, so that the policy does not unlearn what it knew ("PPO-ptx").

    loss = PPO's loss + γ · (−log π(token), mean over the tokens of pretraining texts)

(Ouyang et al. 2022, arXiv 2203.02155, equation 2.) As there, the two are passes of their own whose gradients add up.
Every optimizer step takes as many blocks of text as it has samples. With ZeRO stage 3 or offloading DeepSpeed keeps the
last step's gradient of a weight that the first pass of a step does not reach, so under it the critic is run on texts
too. Left out: more blocks than samples (they took 8 times as many, with γ = 27.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from trlx.pipeline.sampler import PromptSampler
from trlx.trainer.engine import Engine
from trlx.trainer.step import Term


class PretrainingLoss:
    """Deals blocks of text to the ranks in a seeded order and gives the loss of the policy on them.

    Args:
        coefficient: γ. blocks: (N, T) ids, the same on every rank.
        engine: around a `HydraValueHeadModel`. seed: of the order, which is a new one in each pass over the blocks.

    Attributes:
        sampler: its `position` is all there is to resume.
    """

    def __init__(self, coefficient: float, blocks: Tensor, engine: Engine, seed: int):
        self.coefficient, self.blocks, self.engine = coefficient, blocks, engine
        ranks = engine.accelerator.process_index, engine.accelerator.num_processes
        self.sampler = PromptSampler(len(blocks), seed, *ranks)

    def term(self, sizes: Sequence[int]) -> Term:
        """The next blocks of this rank; every rank must ask for equally many.

        Args:
            sizes: blocks of each microbatch.
        """
        dealt = iter(self.sampler.take(sum(sizes)))
        microbatches = [self.blocks[list(islice(dealt, size))] for size in sizes]
        return Term(self.loss, self.loss_weight, microbatches, self.coefficient)

    def loss(self, blocks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in nats of every token but the first of each of (B, T) ids, mean over them."""
        ids = blocks.to(self.engine.accelerator.device, torch.long)
        loss = -self.engine.model(ids, text_pass=True, through_critic=self.engine.is_deepspeed).mean()
        return loss, {"losses/ptx_loss": loss.detach()}

    def loss_weight(self, blocks: Tensor) -> Tensor:
        """How many tokens of (B, T) blocks are predicted: B · (T − 1)."""
        return torch.tensor(blocks.numel() - len(blocks))
