"""Run by `test_two_ranks` on each rank: one optimizer step on invented rollouts, or a short run of `trlx.train`.

accelerate launch ... two_ranks_worker.py step|steps|steps-sharded|train|failing|parting OUTPUT TOKENIZER
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_engine import make_rollouts, ppo_config

import trlx
from trlx.data.ppo_types import collate
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.zero import gathered

MODE, OUTPUT, TOKENIZER = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
PROMPTS = [{"prompt": f"post {i}", "tag": i} for i in range(40)]
RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
CALLS: list[list[int]] = []


def note(name: str, value: Any) -> None:
    (OUTPUT / f"{name}_{RANK}.json").write_text(json.dumps(value))


def reward_fn(outputs: list[str], tag: list[int], **_: Any) -> list[float]:
    CALLS.append(list(tag))
    if MODE == "failing" and len(CALLS) == 2:  # the first call is the evaluation's
        raise KeyError("the judge is away")
    if MODE == "failing-evaluation":
        raise KeyError("the judge is away")
    return [float(len(output)) for output in outputs]


def weights(trainer: AcceleratePPOTrainer) -> dict[str, torch.Tensor]:
    with gathered(trainer.unwrapped_model.parameters()):
        return {name: value.detach().clone() for name, value in trainer.unwrapped_model.state_dict().items()}


class Faulty(AcceleratePPOTrainer):
    """Its loss is no number while `broken`."""

    broken = False

    def loss(self, batch: Any) -> Any:
        loss, stats = super().loss(batch)
        return loss * float("nan") if self.broken else loss, stats


def one_step_config(**changes: Any) -> Any:
    """Of a step of SGD on this rank's share of 8 rows."""
    given = {"optimizer__name": "sgd", "train__batch_size": 8 // WORLD, "train__minibatch_size": 2}
    return ppo_config(OUTPUT, TOKENIZER, **given, model__num_layers_unfrozen=2, **changes)


def my_share() -> list[Any]:
    """Microbatches of this rank's part of the same 8 rows. Their lengths differ, and so do the ranks' tokens."""
    mine = make_rollouts(8)[RANK * 8 // WORLD : (RANK + 1) * 8 // WORLD]
    return [collate(mine[start : start + 2], 0) for start in range(0, len(mine), 2)]


def one_step() -> None:
    """Each rank steps on its share; the weights go to `OUTPUT/weights.pt`.

    Then come two more steps, in the first of which the last rank's loss is no number.
    """
    config = one_step_config(method__max_grad_norm=None if MODE == "step-unclipped" else 1.0)
    config.optimizer.kwargs = {"lr": 1.0 if config.method.max_grad_norm else 0.01}
    trainer = Faulty(config, reward_fn=reward_fn)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    parts = my_share()
    before = weights(trainer)
    stats = trainer.train_step(parts)
    after = weights(trainer)
    if RANK == 0:
        torch.save({"before": before, "weights": after, "stats": stats}, OUTPUT / "weights.pt")
    trainer.broken = WORLD - 1 == RANK
    skipped = [trainer.train_step(parts)["skipped_steps"]]
    same = [all(torch.equal(value, after[name]) for name, value in weights(trainer).items())]
    trainer.broken = False
    skipped.append(trainer.train_step(parts)["skipped_steps"])
    same.append(all(torch.equal(value, after[name]) for name, value in weights(trainer).items()))
    finite = all(bool(value.isfinite().all()) for value in weights(trainer).values())
    note("skipping", {"skipped": skipped, "same": same, "finite": finite})
    note("world", trainer.accelerator.num_processes)
    if dist.is_initialized():
        dist.barrier()


def mixed_steps(decay: float | None) -> None:
    """Two steps with pretraining texts mixed in and, with a decay, the weights averaged: `OUTPUT/mixed.pt`."""
    config = one_step_config(method__ptx_coef=0.5, train__ema_decay=decay, method__max_grad_norm=None)
    config.optimizer.kwargs = {"lr": 0.01}
    trainer = AcceleratePPOTrainer(config, reward_fn=reward_fn)
    trainer.add_ptx_texts([f"text number {i} is about {'owls' if i % 2 else 'trees'}" for i in range(24)])
    trainer.iter_count = 1
    before, parts = weights(trainer), my_share()
    stats = [trainer.train_step(parts) for _ in range(2)]
    average = trainer.ema.policy_state() if trainer.ema else {}
    after = weights(trainer)
    if RANK == 0:
        torch.save({"before": before, "weights": after, "stats": stats, "average": average}, OUTPUT / "mixed.pt")
    if trainer.ema is None:
        return
    trainer.save(str(OUTPUT / "mixed"))
    again = AcceleratePPOTrainer(config, reward_fn=reward_fn)
    again.load(str(OUTPUT / "mixed"))
    kept = again.ema.average  # type: ignore[union-attr]
    pairs = zip(kept.values(), trainer.ema.average.values(), strict=True)
    note("mixed", {"same": all(torch.equal(*pair) for pair in pairs), "kept": len(kept)})


def run() -> None:
    config = ppo_config(
        OUTPUT,
        TOKENIZER,
        train__epochs=1,
        train__ema_decay=0.5,
        train__minibatch_size=4,
        train__rollout_logging_dir=str(OUTPUT / "rollouts"),
        train__eval_interval=4,
        model__num_layers_unfrozen=2,
    )
    trainer = trlx.train(reward_fn=reward_fn, prompts=PROMPTS, eval_prompts=PROMPTS[:5], config=config)
    note("run", {"world": trainer.accelerator.num_processes, "calls": CALLS})  # type: ignore[attr-defined]


def parting() -> None:
    """The held-out score falls from step 1 on while the reward rises: each rank exports what it went back to."""
    scores = iter((0.5, 0.9, 0.7, 0.6, 0.5))

    def metric_fn(tag: list[int], **_: Any) -> dict[str, list[float]]:
        mean = next(scores)
        CALLS.append(list(tag))
        return {"gold": [mean + 0.001 * number for number in tag]}

    config = ppo_config(
        OUTPUT,
        TOKENIZER,
        train__epochs=1,
        train__eval_interval=1,
        train__heldout_metric="metrics/gold",
        train__on_overoptimization="stop",
        optimizer__kwargs__lr=1e-2,
        model__num_layers_unfrozen=2,
    )
    rising = iter(range(100))
    trainer = trlx.train(
        reward_fn=lambda outputs, **_: [float(next(rising))] * len(outputs),
        metric_fn=metric_fn,
        prompts=PROMPTS,
        eval_prompts=PROMPTS[:5],
        config=config,
    )
    trainer.save_pretrained(str(OUTPUT / "export"))
    total = sum(value.double().abs().sum().item() for value in weights(trainer).values())  # type: ignore[arg-type]
    note("parting", {"steps": trainer.iter_count, "total": total, "calls": len(CALLS)})


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    if MODE.startswith("step"):
        one_step()
        if MODE.startswith("steps"):
            mixed_steps(0.75 if MODE == "steps" else None)
    elif MODE == "parting":
        parting()
    else:
        run()
    # As `launch.stage.ranks` ends: a rank that goes while another still talks to it can be aborted on its way out.
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
