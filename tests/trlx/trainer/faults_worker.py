"""Run by `test_faults` on each rank: a short run of PPO in which something goes wrong.

accelerate launch ... faults_worker.py dying|stopping|hanging OUTPUT TOKENIZER
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tiny_engine import ppo_config
from tiny_runs import PROMPTS

import trlx
from trlx.trainer import register_trainer
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.errors import run_main

MODE, OUTPUT, TOKENIZER = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
RANK = int(os.environ.get("RANK", "0"))


@register_trainer
class Struck(AcceleratePPOTrainer):
    """In the second step rank 1 is killed, or the launcher told to stop."""

    def after_optimizer_step(self) -> None:
        if self.iter_count == 2 and MODE == "dying" and RANK == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.iter_count == 2 and MODE == "stopping" and RANK == 1:
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(2)  # until the launcher has passed it on


def slow_judge(outputs: list[str], **_: Any) -> list[float]:
    while MODE == "hanging":
        try:
            time.sleep(1000)
        except Exception:  # as code that tries again does
            continue
    return [float(len(output)) for output in outputs]


def main() -> None:
    config = ppo_config(
        OUTPUT,
        TOKENIZER,
        train__trainer="Struck",
        train__reward_timeout=2.0,
        model__num_layers_unfrozen=2,
    )
    trlx.train(reward_fn=slow_judge, prompts=PROMPTS, eval_prompts=PROMPTS[:4], config=config)


if __name__ == "__main__":
    OUTPUT.mkdir(parents=True, exist_ok=True)
    try:
        run_main(main)
    except SystemExit as end:
        (OUTPUT / f"code_{RANK}_{end.code}").touch()
        raise
