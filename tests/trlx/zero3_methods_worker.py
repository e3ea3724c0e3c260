"""SFT, RFT and ILQL one after another: by `test_zero3` in its own process, and on each of two ranks.

accelerate launch ... zero3_methods_worker.py OUTPUT TOKENIZER

Every method takes optimizer steps on the same rows whatever the number of ranks, and its evaluation gives one rank more
batches than the other, and longer responses.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_engine import END, neo_config, ppo_config
from tiny_runs import fresh_accelerate
from torch import Tensor

import trlx
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ilql_config
from trlx.data.rft_config import RFTConfig
from trlx.data.sft_config import SFTConfig
from trlx.trainer import responder

METHODS = ("sft", "rft", "ilql")
SAMPLES = [["ab", "cd"], ["x", "yz and more"], ["q", "r"], ["a longer prompt", "u"]] * 4
PROMPTS = ["ab", "a longer prompt", "q"]  # one rank has two of them
ROWS = 8  # of an optimizer step, all ranks together
OWN_GENERATE = responder.generate


def seeded_by_prompt(model: Any, ids: Tensor, *arguments: Any, **options: Any) -> Any:
    """`generate` whose draws depend on the prompts of the batch and not on the rank that writes."""
    torch.manual_seed(int(ids.sum()))
    return OWN_GENERATE(model, ids, *arguments, **options)


def low_characters(outputs: list[str], **_: Any) -> list[float]:
    """How many of an output's characters are in the first half of ASCII."""
    return [float(sum(ord(c) < 64 for c in output.removesuffix(END))) for output in outputs]


def config_of(method: str, output: Path, tokenizer: str, rank: int, world: int) -> TRLConfig:
    config = ppo_config(
        output / method,
        tokenizer,
        train__trainer=f"Accelerate{method.upper()}Trainer",
        train__batch_size=ROWS // world,
        train__minibatch_size=ROWS // world // 2,
        train__epochs=1,
        train__eval_interval=2,
        train__checkpoint_interval=1000,
        train__save_best=False,
        model__model_path=neo_config(layers=2),
        model__num_layers_unfrozen=1 if method == "sft" else -1,
        optimizer__kwargs__lr=1e-3,
    )
    longest = 6 if method == "rft" else 8 - 4 * rank  # RFT learns what it has written
    written = {"max_new_tokens": longest, "do_sample": True}
    if method == "sft":
        config.method = SFTConfig(name="SFTConfig", gen_kwargs=written)
    elif method == "rft":  # so many samples that a batch is one prompt's
        counts = {"n_generations_per_prompt": ROWS, "n_improve_steps": 1, "start_percentile": 0.3}
        config.method = RFTConfig(name="RFTConfig", gen_kwargs=written, **counts)  # type: ignore[arg-type]
    else:
        steered = {"max_new_tokens": longest, "beta": 1, "top_k": 0}
        changes = {"alpha": 0.5, "steps_for_target_q_sync": 1, "gen_kwargs": steered}
        config.method = default_ilql_config().evolve(method=changes).method
    return config


def run(method: str, output: Path, tokenizer: str, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Train and export to `output/METHOD/export`. Returns what this rank saw."""
    fresh_accelerate()
    given: dict[str, Any] = {"samples": SAMPLES}
    if method == "rft":
        given = {"reward_fn": low_characters, "prompts": PROMPTS}
    elif method == "ilql":
        given["rewards"] = [float(len(answer)) for _, answer in SAMPLES]
    responder.generate = seeded_by_prompt
    try:
        config = config_of(method, output, tokenizer, rank, world)
        trainer: Any = trlx.train(config=config, eval_prompts=["ab"] * (ROWS // world + 1), **given)
    finally:
        responder.generate = OWN_GENERATE
    held = sum(parameter.numel() for parameter in trainer.unwrapped_model.parameters())
    trainer.save_pretrained(str(output / method / "export"))
    return {"steps": trainer.iter_count, "world": trainer.accelerator.num_processes, "held": held}


def main() -> None:
    output, tokenizer, rank = Path(sys.argv[1]), sys.argv[2], int(os.environ["RANK"])
    output.mkdir(parents=True, exist_ok=True)
    notes = {method: run(method, output, tokenizer, rank, int(os.environ["WORLD_SIZE"])) for method in METHODS}
    (output / f"methods_{rank}.json").write_text(json.dumps(notes))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
