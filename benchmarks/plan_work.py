"""The pieces of work that `plan_memory` and `plan_time` measure; each function prepares one and gives what does it.

SFT and reward model: the stages' own objectives and optimizer in a bare loop (the Trainer around them holds nothing
that grows with the model). PPO: the engine's trainer, a phase of rollouts and its optimizer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers.models.gpt_neo.modeling_gpt_neo  # noqa: F401  (an import, not work)
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks.engine_ppo import EnginePPO
from benchmarks.timing import Iteration
from benchmarks.workload import Workload
from reward_model.model import score_head
from reward_model.objective import PairObjective
from sft.collator import IGNORED
from sft.loss import SummaryObjective
from trlx.generation.sampling import generate
from trlx.models.loading import load_language_model
from trlx.utils.pretrained import load_model


def resident_memory() -> int:
    """Bytes that the process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def sft(path: str, prompt: int, response: int, rows: int, chunk: int) -> Callable[[], None]:
    """A step on rows whose last `response` tokens are learnt."""
    model, _ = load_model(AutoModelForCausalLM, path)
    objective = SummaryObjective(model.get_output_embeddings())
    ids = torch.randint(1, model.config.vocab_size, (rows, prompt + response))
    labels = ids.clone()
    labels[:, :prompt] = IGNORED
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    return _step(model, lambda: objective(model, batch))


def reward(path: str, prompt: int, response: int, rows: int, chunk: int) -> Callable[[], None]:
    """A step on pairs."""
    model, _ = load_model(AutoModelForSequenceClassification, path, num_labels=1)
    model.config.pad_token_id, model.config.use_cache = 0, False
    objective = PairObjective("last_token", score_head(model))
    ids = torch.randint(1, model.config.vocab_size, (2 * rows, prompt + response))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "gold": torch.zeros(rows)}
    return _step(model, lambda: objective(model, batch))


def write(path: str, prompt: int, response: int, rows: int, chunk: int) -> Callable[[], None]:
    """Responses to one chunk of prompts."""
    model = load_language_model(path).eval()
    ids = torch.randint(1, model.config.vocab_size, (chunk, prompt))
    options = {"max_new_tokens": response, "do_sample": True}
    return lambda: void(generate(model, ids, torch.ones_like(ids), options, 0, 0))


def ppo(workload: Workload, phases: int) -> Callable[[], Iteration]:
    """A phase of rollouts with its optimizer steps, at most so many times."""
    return EnginePPO(workload, phases).iterate


def void(_: object) -> None:
    """Forget what came of something."""


def _step(model: Any, loss: Callable[[], Any]) -> Callable[[], None]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step
