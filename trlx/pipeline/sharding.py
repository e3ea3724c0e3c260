"""Which rank trains on which rows of a store when: one shuffled pass, the same on every rank, dealt out in batches."""

from __future__ import annotations

import numpy as np
import torch


def rank_batches(size: int, batch_size: int, key: tuple[int, ...], rank: int = 0, world: int = 1) -> list[list[int]]:
    """One rank's batches of a pass over `size` rows, in an order that depends on `key` alone.

    Every `world · batch_size` rows of the pass make an optimizer step, so the steps are the same for every number of
    ranks with the same product. The last ones may be fewer; all ranks still get equally many batches and rows, for
    which up to `world` − 1 rows come twice.

    Args:
        key: of the order, e.g. (seed, epoch, pass).

    Returns: ⌈size / (world · batch_size)⌉ lists of indices.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
    order = torch.randperm(size, generator=generator).tolist()
    batches = []
    for start in range(0, size, world * batch_size):
        step = order[start : start + world * batch_size]
        share = -(-len(step) // world)  # rounded up
        step = step + (order * world)[: share * world - len(step)]
        batches.append(step[rank * share : (rank + 1) * share])
    return batches
