"""What every pass of every stage has alive, from configs alone: the stages' own modules run on shapes (`counting`).

Left out: encoder-decoders, adapters and value branches, which the summarization pipeline does not train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig

from launch.plan.counting import (
    Linear,
    Sampling,
    Trained,
    Work,
    cast,
    count_free,
    count_sampling,
    count_training,
    keeps,
)
from launch.plan.shapes import Count, count, floating
from reward_model.model import freeze_bottom, score_head
from reward_model.objective import PairObjective
from trlx.models.critics import SeparateCritic
from trlx.models.loading import fuse_activations
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead

PAD = 0


@dataclass(frozen=True)
class PolicyPasses:
    """PPO's model: the policy itself is `trained.weights` less the critic.

    Args:
        reference: its frozen copies. critic: the head, or a model of its own. trunk_row: what one row keeps of it.
        collect: policy and reference over prompts and responses.
    """

    trained: Trained
    reference: Count
    critic: Count
    trunk_row: int
    sampling: Sampling
    collect: Linear


def dtype_of(precision: str, autocast: bool = False) -> torch.dtype:
    """Of the weights that passes read; DeepSpeed casts them, autocast leaves them. fp16 has bf16's size."""
    return torch.float32 if precision == "fp32" or autocast else torch.bfloat16


def language_model(config: PreTrainedConfig, fused: bool) -> Any:
    """A causal model of the config; `fused` as PPO and evaluation load it (`fuse_activations`)."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.get_default_dtype())
    if fused:
        fuse_activations(model)
    return model


def classifier(config: PreTrainedConfig) -> Any:
    """A reward model of the config."""
    config.num_labels, config.pad_token_id = 1, PAD
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.get_default_dtype())
    model.config.use_cache = False
    return model


def trace_sft(
    config: PreTrainedConfig, length: int, labelled: int, rows: int, precision: str, autocast: bool
) -> Trained:
    """Supervised fine-tuning on up to `rows` rows of `length` tokens, `labelled` of them in the loss.

    The head runs at the labelled tokens alone, as `sft.loss` has it, whose boolean index shapes cannot follow.
    """
    with floating(dtype_of(precision, autocast)):
        model = language_model(config, fused=False)

    def make(n: int) -> Work:
        ids = torch.zeros(n, length, dtype=torch.long)
        kept = torch.arange(n * labelled)
        targets = torch.zeros(n * labelled, dtype=torch.long)

        def loss() -> Tensor:
            handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, x: (x[0].flatten(0, 1)[kept],))
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            handle.remove()
            return F.cross_entropy(output.logits.float(), targets, reduction="sum")

        return loss, [ids, kept, targets]

    return count_training(model, model, config.vocab_size, make, rows, keeps(precision, autocast), autocast)


def trace_reward(
    config: PreTrainedConfig, length: int, frozen: float, pairs: int, precision: str, autocast: bool
) -> Trained:
    """Reward-model training; a row of the passes is a pair."""
    with floating(dtype_of(precision, autocast)):
        model = classifier(config)
    freeze_bottom(model, frozen)
    objective = PairObjective("last_token", score_head(model))

    def make(rows: int) -> Work:
        ids = torch.zeros(2 * rows, length, dtype=torch.long)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "gold": torch.zeros(rows)}
        return lambda: objective(model, batch), list(batch.values())

    return count_training(model, model, config.vocab_size, make, pairs, keeps(precision, autocast), autocast)


def trace_scoring(config: PreTrainedConfig, length: int, rows: int, precision: str) -> tuple[Count, Linear]:
    """A finished reward model and its pass over texts."""
    with floating(dtype_of(precision)):
        model = classifier(config).eval()

    def make(n: int) -> Work:
        ids = torch.zeros(n, length, dtype=torch.long)
        return lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, [ids]

    return count(model), count_free(model, config.vocab_size, make, rows)


def trace_writing(
    config: PreTrainedConfig, prompt: int, response: int, rows: int, precision: str, slices: bool
) -> tuple[Count, Sampling]:
    """(weights, `Sampling`) of a policy that is judged."""
    with floating(dtype_of(precision)):
        model = language_model(config, fused=True).eval()
    return count(model), count_sampling(model, config.vocab_size, prompt, response, rows, slices)


def trace_ppo(
    config: PreTrainedConfig,
    critic: PreTrainedConfig | None,
    prompt: int,
    response: int,
    unfrozen: int,
    batch: int,
    chunk: int,
    precision: str,
    autocast: bool,
    slices: bool,
) -> PolicyPasses:
    """PPO of `config`'s model, the top `unfrozen` blocks of it (-1: all).

    Args:
        critic: of a reward model that is the critic; None for the head on the policy.
        batch, chunk: the most rows of a training pass, and of a rollout.
        slices: whether prompts are read some rows at a time, as on a CPU.
    """
    with floating(dtype_of(precision, autocast)):
        base = language_model(config, fused=True)
        model: Any = AutoModelForCausalLMWithHydraValueHead(base, num_layers_unfrozen=unfrozen)
        if critic is not None:
            model.v_head = SeparateCritic(classifier(critic))
    vocabulary = config.vocab_size
    trunk_row = 0 if model.trunk is None else (prompt + response) * config.hidden_size * base.dtype.itemsize

    def rows_of(rows: int, with_reference: bool) -> Work:
        given = _response_batch(rows, prompt, response)
        trunk = torch.zeros(rows, prompt + response, config.hidden_size, dtype=base.dtype) if trunk_row else None
        more = {"trunk": trunk, "with_reference": with_reference, "response_pass": True}
        return lambda: model(**given, **more), [*given.values(), *([trunk] if trunk is not None else [])]

    def make(rows: int) -> Work:
        run, inputs = rows_of(rows, False)

        def loss() -> Tensor:
            output = run()
            return output["logprobs"].sum() + output["values"].float().sum()

        return loss, inputs

    trained = count_training(model, base, vocabulary, make, batch, keeps(precision, autocast), autocast)
    model.eval()
    with cast(autocast):
        collect = count_free(model, vocabulary, lambda rows: rows_of(rows, True), chunk)
        sampling = count_sampling(base, vocabulary, prompt, response, chunk, slices)
    reference = count(model.frozen_head)
    return PolicyPasses(trained, reference, count(model.v_head), trunk_row, sampling, collect)


def _response_batch(rows: int, prompt: int, response: int) -> dict[str, Tensor]:
    return {
        "query": torch.zeros(rows, prompt, dtype=torch.long),
        "query_mask": torch.ones(rows, prompt, dtype=torch.bool),
        "response": torch.zeros(rows, response, dtype=torch.long),
        "response_mask": torch.ones(rows, response, dtype=torch.bool),
    }
