"""Run by `test_zero3` on each of two ranks: a run of `trlx.train` under ZeRO stage 3, and what it communicated.

accelerate launch ... zero3_worker.py OUTPUT TOKENIZER OVERRIDES, those as JSON

The ranks write responses of unequal length to unequally many evaluation batches, so that any exchange while they
generate is a deadlock.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from deepspeed.runtime.zero.partitioned_param_coordinator import PartitionedParameterCoordinator
from tiny_engine import ppo_config
from transformers import AutoModelForCausalLM

import trlx
from trlx.trainer import register_trainer, responder
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.trainer.rollout import RolloutCollector

OUTPUT, TOKENIZER, OVERRIDES = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
RANK = int(os.environ["RANK"])
PROMPTS = [f"post {i}" for i in range(40)]
IDS = torch.arange(1, 9).unsqueeze(0)
COUNTS = {name: 0 for name in ("gathers", "fetches", "chunks", "evaluations", "generated", "forwards")}
COUNTS |= {name: 0 for name in ("fetched_while_generating", "gathers_in_rollouts", "gathers_in_evaluations")}


def counted(owner: Any, name: str, count: str) -> None:
    """Count the calls of a method in `COUNTS`."""
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        COUNTS[count] += 1
        return original(*args, **kwargs)

    setattr(owner, name, call)


@contextlib.contextmanager
def adding(into: str, *counts: str) -> Iterator[None]:
    """Add what some counts grow by within the block to another."""
    before = sum(COUNTS[name] for name in counts)
    yield
    COUNTS[into] += sum(COUNTS[name] for name in counts) - before


def watched(original: Any) -> Any:
    """`generate`, noting what the ranks exchange meanwhile and how often the model runs."""

    def call(model: Any, *args: Any, **kwargs: Any) -> Any:
        COUNTS["generated"] += 1
        handle = model.register_forward_hook(lambda *_: COUNTS.update(forwards=COUNTS["forwards"] + 1))
        with adding("fetched_while_generating", "gathers", "fetches"):
            made = original(model, *args, **kwargs)
        handle.remove()
        return made

    return call


class Watched(AcceleratePPOTrainer):
    """Counts what its phases gather, and remembers the logits before the first."""

    initial: torch.Tensor | None = None

    def make_experience(self, *args: Any, **kwargs: Any) -> None:
        self.initial = logits_of(self) if self.initial is None else self.initial
        with adding("gathers_in_rollouts", "gathers"):
            super().make_experience(*args, **kwargs)

    def evaluate(self) -> dict[str, float]:
        COUNTS["evaluations"] += 1
        with adding("gathers_in_evaluations", "gathers"):
            return super().evaluate()


def logits_of(trainer: Any) -> torch.Tensor:
    with torch.no_grad(), trainer.engine.whole(trainer.policy):
        return trainer.policy(input_ids=IDS).logits


def main() -> None:
    counted(GatheredParameters, "__enter__", "gathers")
    counted(PartitionedParameterCoordinator, "fetch_sub_module", "fetches")
    counted(RolloutCollector, "collect", "chunks")
    responder.generate = watched(responder.generate)
    settings = {
        "train.trainer": "Watched",
        "train.epochs": 2,
        "train.checkpoint_interval": 1,
        "method.chunk_size": 4,
        "method.num_rollouts": 8,
        "method.ppo_epochs": 1,
        "model.num_layers_unfrozen": 2,
        **OVERRIDES,
    }
    config = ppo_config(OUTPUT, TOKENIZER, **{name.replace(".", "__"): value for name, value in settings.items()})
    config.method.gen_kwargs["max_new_tokens"] = 8 - 4 * RANK  # type: ignore[attr-defined]
    trainer: Any = trlx.train(
        reward_fn=lambda outputs, **_: [float(len(output)) for output in outputs],
        prompts=PROMPTS,
        eval_prompts=PROMPTS[:9],
        config=config,
    )
    counts = dict(COUNTS)
    last, reference = logits_of(trainer), trainer.ref_model(IDS, attention_mask=torch.ones_like(IDS)).logits
    trainer.save_pretrained(str(OUTPUT / "export"))
    exported = AutoModelForCausalLM.from_pretrained(OUTPUT / "export").eval()(input_ids=IDS).logits
    notes = {
        **counts,
        "world": trainer.accelerator.num_processes,
        "shards": sum(  # numbers that are there between gatherings
            parameter.numel() for parameter in trainer.unwrapped_model.parameters()
        ),
        "export": (exported - last).abs().max().item(),
        "reference": (reference - trainer.initial).abs().max().item(),
        "moved": (last - trainer.initial).abs().max().item(),
    }
    (OUTPUT / f"notes_{RANK}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    register_trainer(Watched)
    main()
    dist.barrier()
    dist.destroy_process_group()
