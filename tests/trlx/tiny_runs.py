"""Whole trainers of the tiny models of `tiny_engine`, and what tests read off them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from tiny_engine import END

import trlx
from trlx.data.configs import TRLConfig
from trlx.data.ppo_types import PPORLElement
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.trainer.accelerate_ppo_trainer import AcceleratePPOTrainer
from trlx.utils.metrics import read_metrics

PROMPTS = [{"prompt": f"hello {i} " + "x" * (i % 7), "tag": i} for i in range(20)]


def fresh_accelerate() -> None:
    """accelerate's settings are global to the process."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()  # type: ignore[attr-defined]


def letters(outputs: list[str], **_: Any) -> list[float]:
    """How much of an output is lower-case ASCII letters, times 10."""
    texts = [output.removesuffix(END) for output in outputs]
    return [10 * sum(c.isascii() and c.islower() for c in text) / max(len(text), 1) for text in texts]


def run(config: TRLConfig, **options: Any) -> Any:
    """`trlx.train` on `PROMPTS` and `letters` unless told otherwise."""
    fresh_accelerate()
    return trlx.train(
        config=config, **{"reward_fn": letters, "prompts": PROMPTS, "eval_prompts": PROMPTS[:4], **options}
    )


class Stop(Exception):
    """What `run_until` ends a run with."""


def run_until(call: int, config: TRLConfig, **options: Any) -> None:
    """A run whose reward function fails at that call: the first is the evaluation's, then one for each chunk."""
    calls: list[int] = []

    def reward_fn(**given: Any) -> list[float]:
        calls.append(1)
        if len(calls) == call:
            raise Stop
        return letters(**given)

    try:
        run(config, reward_fn=reward_fn, **options)
    except Stop:
        return
    raise AssertionError(f"the run ended after {len(calls)} calls")


def make_trainer(config: TRLConfig, kind: Any = AcceleratePPOTrainer, prompts: Any = None, **options: Any) -> Any:
    """A trainer that has not learned yet, with prompts to roll out."""
    fresh_accelerate()
    trainer = kind(config, **{"reward_fn": letters, **options})
    trainer.add_prompt_pipeline(PromptPipeline(PROMPTS if prompts is None else prompts, 24, trainer.tokenizer))
    return trainer


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    """A copy of the bare model's weights."""
    return {name: value.detach().clone() for name, value in trainer.unwrapped_model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], trainer: Any) -> set[str]:
    """Names of the weights that are no longer what they were."""
    return {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}


def logged(trainer: Any, name: str) -> list[float]:
    """The values of a metric, in order."""
    return [line[name] for line in read_metrics(trainer.logging_dir) if name in line]


def lasts(elements: Iterable[PPORLElement]) -> list[float]:
    """Each element's reward on its last token."""
    return [element.rewards[-1].item() for element in elements]
