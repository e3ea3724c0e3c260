"""The engine's side: an `AcceleratePPOTrainer` run an iteration at a time, its phases read from what it logs."""

from __future__ import annotations

import os
from typing import Any

import torch

from benchmarks.timing import Iteration, Stopwatch
from benchmarks.workload import Workload, prompts, reward
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.metrics import read_metrics

PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
GAPS = ("rollout/sampling_logprob_gap", "policy/log_ratio_gap")


class EnginePPO:
    """The trainer with prompts, ready to iterate.

    Args:
        iterations: how many there will be at most.
    """

    def __init__(self, workload: Workload, iterations: int):
        os.environ["ACCELERATE_USE_CPU"] = str(workload.device == "cpu").lower()
        os.environ["ACCELERATE_MIXED_PRECISION"] = PRECISION[workload.dtype]
        self.workload = workload
        self.trainer = AcceleratePPOTrainer(workload.config(iterations), reward_fn=reward)
        self.trainer.add_prompt_pipeline(PromptPipeline(prompts(workload), workload.prompt, self.trainer.tokenizer))
        self.trainer.prepare_learning()
        self.steps = self.trainer.batches()

    def iterate(self) -> Iteration:
        """One iteration, timed: the rollouts of a phase and all optimizer steps on them."""
        lines = len(read_metrics(self.trainer.logging_dir))
        watch = Stopwatch(self.workload.device)
        handles = self._time_optimizer(watch)
        for _ in range(self._steps_an_iteration()):
            self.trainer.train_step(next(self.steps))
        for handle in handles:
            handle.remove()
        logged = read_metrics(self.trainer.logging_dir)[lines:]
        self._add_phases(watch.seconds, logged)
        tokens = sum(len(element.response_tensor) for element in self.trainer.store.history)
        # The first optimizer step's, before the weights have moved away from those that sampled.
        gaps = {name: line[name] for line in reversed(logged) for name in GAPS if name in line}
        return watch.finish(tokens, gaps)

    def _steps_an_iteration(self) -> int:
        return self.workload.epochs * -(-self.workload.chunks * self.workload.chunk // self.workload.batch)

    def _time_optimizer(self, watch: Stopwatch) -> list[Any]:
        """Hooks on the optimizer's step, whose time is part of what the trainer logs as backward."""
        started: list[float] = []
        optimizer: torch.optim.Optimizer = self.trainer.opt.optimizer  # type: ignore[attr-defined]  # bare, not wrapped

        def note(*_: Any) -> None:
            watch.seconds["optimizer"] += watch.now() - started.pop()

        return [
            optimizer.register_step_pre_hook(lambda *_: started.append(watch.now())),
            optimizer.register_step_post_hook(note),
        ]

    def _add_phases(self, seconds: dict[str, float], logged: list[dict[str, Any]]) -> None:
        """Phases from logged lines, in which the times of rollouts are means over chunks."""
        for line in logged:
            if "time/rollout_time" in line:
                generate, score, total = (line[f"time/rollout_{name}"] for name in ("generate", "score", "time"))
                seconds["generate"] += self.workload.chunks * generate
                seconds["score"] += self.workload.chunks * score
                seconds["experience"] += self.workload.chunks * (total - generate - score)
            seconds["forward"] += line.get("time/forward", 0.0)
            seconds["backward"] += line.get("time/backward", 0.0)
        seconds["backward"] -= seconds["optimizer"]
