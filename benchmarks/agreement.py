"""Whether both sides compute the same thing: same weights and rollouts in, same losses and gradients out."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from benchmarks.engine_ppo import EnginePPO
from benchmarks.plain_ppo import Experience, PlainPPO, whiten
from benchmarks.timing import Stopwatch
from benchmarks.workload import Workload, reward
from trlx.data.ppo_types import PPORLBatch

TOLERANCE = 1e-4
STEPS = 2  # the second comes after an update


def differences(workload: Workload) -> dict[str, float]:
    """The largest absolute difference, in float32, of each quantity; of the gradient's norm the relative one.

    The baseline takes over the engine's weights and sampled token ids, and nothing else.
    """
    workload = dataclasses.replace(workload, dtype="float32")
    engine, plain = EnginePPO(workload, iterations=1), PlainPPO(workload)
    plain.model.v_head.load_state_dict(engine.trainer.unwrapped_model.v_head.state_dict())
    first = next(engine.steps)
    rollouts = engine.trainer.store.whole()
    experience = replay(plain, rollouts)
    mask = experience.response_mask
    found = {
        name: float((getattr(rollouts, name) - getattr(experience, name))[mask].abs().max())
        for name in ("logprobs", "ref_logprobs", "values", "advantages", "returns")
    }
    return found | compare_steps(engine, plain, experience, first)


@torch.no_grad()
def replay(plain: PlainPPO, rollouts: PPORLBatch) -> Experience:
    """What the baseline makes of the engine's token ids."""
    response = rollouts.response_tensors
    outputs = plain.tokenizer.batch_decode(response, skip_special_tokens=True)
    scores = torch.tensor(reward(samples=outputs, prompts=outputs, outputs=outputs), device=response.device)
    assert rollouts.query_mask is not None
    experience = plain.experience(rollouts.query_tensors, rollouts.query_mask.long(), response, scores)
    whiten(experience)
    return experience


def compare_steps(engine: EnginePPO, plain: PlainPPO, experience: Experience, first: list[Any]) -> dict[str, float]:
    """Differences of the loss and of the gradient's norm in the first optimizer steps, on the same rows."""
    places = {_key(ids, mask): row for row, (ids, mask) in enumerate(_rows(experience))}
    found = {"loss": 0.0, "gradient_norm": 0.0}
    for step in range(STEPS):
        microbatches = first if step == 0 else next(engine.steps)
        keys = [key for batch in microbatches for key in _keys(batch)]
        indices = torch.tensor([places[key] for key in keys], device=plain.device)
        stats = engine.trainer.train_step(microbatches)
        loss, norm = plain.train_step(experience.rows(indices), Stopwatch(plain.workload.device))
        found["loss"] = max(found["loss"], abs(loss - stats["losses/total_loss"]))
        found["gradient_norm"] = max(found["gradient_norm"], abs(norm / stats["gradient_norm"] - 1.0))
    return found


def _rows(experience: Experience) -> list[tuple[Tensor, Tensor]]:
    return list(zip(experience.input_ids, experience.attention_mask.bool(), strict=True))


def _keys(batch: PPORLBatch) -> list[tuple[int, ...]]:
    assert batch.query_mask is not None and batch.response_mask is not None
    ids = torch.cat([batch.query_tensors, batch.response_tensors], dim=1)
    masks = torch.cat([batch.query_mask, batch.response_mask], dim=1)
    return [_key(row, mask) for row, mask in zip(ids, masks, strict=True)]


def _key(ids: Tensor, mask: Tensor) -> tuple[int, ...]:
    return tuple(ids[mask].tolist())
