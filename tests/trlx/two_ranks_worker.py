"""Run by `test_two_ranks` on each rank: one optimizer step on invented rollouts, or a short run of `trlx.train`.

accelerate launch ... two_ranks_worker.py step|train|failing OUTPUT TOKENIZER
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
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer

MODE, OUTPUT, TOKENIZER = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
PROMPTS = [{"prompt": f"post {i}", "tag": i} for i in range(40)]
RANK = int(os.environ.get("RANK", "0"))
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
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def one_step() -> None:
    """Each rank steps on its share of the same 8 rows; the weights go to `OUTPUT/weights.pt`."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    config = ppo_config(
        OUTPUT,
        TOKENIZER,
        train__batch_size=8 // world,
        train__minibatch_size=2,
        optimizer__name="sgd",
        method__max_grad_norm=None if MODE == "step-unclipped" else 1.0,
        model__num_layers_unfrozen=2,
    )
    config.optimizer.kwargs = {"lr": 1.0 if config.method.max_grad_norm else 0.01}
    trainer = AcceleratePPOTrainer(config, reward_fn=reward_fn)
    trainer.iter_count = 1  # the rollouts are invented, so ratio 1 is not to be expected
    rows = make_rollouts(8)
    mine = torch.arange(8).chunk(world)[RANK]  # the rows' lengths differ, so the ranks hold unequal numbers of tokens
    before = weights(trainer)
    stats = trainer.train_step([rows.select(part) for part in mine.split(2)])
    if RANK == 0:
        torch.save({"before": before, "weights": weights(trainer), "stats": stats}, OUTPUT / "weights.pt")
    note("world", trainer.accelerator.num_processes)
    if dist.is_initialized():
        dist.barrier()


def run() -> None:
    config = ppo_config(
        OUTPUT,
        TOKENIZER,
        train__epochs=1,
        train__minibatch_size=4,
        train__rollout_logging_dir=str(OUTPUT / "rollouts"),
        train__eval_interval=4,
        model__num_layers_unfrozen=2,
    )
    trainer = trlx.train(reward_fn=reward_fn, prompts=PROMPTS, eval_prompts=PROMPTS[:5], config=config)
    note("run", {"world": trainer.accelerator.num_processes, "calls": CALLS})  # type: ignore[attr-defined]


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    if MODE.startswith("step"):
        one_step()
    else:
        run()
    if dist.is_initialized():
        dist.destroy_process_group()
