"""What every pass of every stage has alive, from configs alone: the stages' own modules run on shapes (`shapes`).

A pass over B rows takes a fixed part and a part for each row (`Linear`), found by running it with one row and with
two. Left out: encoder-decoders, adapters and value branches, which the summarization pipeline does not train.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache, PreTrainedConfig

from launch.plan.shapes import Alive, Count, count, dropping_gradients, floating, no_gradients, watching
from reward_model.model import freeze_bottom, score_head
from reward_model.objective import PairObjective
from trlx.functional.masking import position_ids
from trlx.generation.cache import GrowingLayer, growing_cache
from trlx.models.critics import SeparateCritic
from trlx.models.loading import fuse_activations
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead

Work = tuple[Callable[[], Any], Sequence[Tensor]]  # what is run, and its inputs
PAD = 0


@dataclass(frozen=True)
class Linear:
    """Bytes of a pass by its rows: those of one row, and of two."""

    one: Alive
    two: Alive

    def at(self, rows: int) -> Alive:
        """Bytes with so many rows."""
        more = rows - 1
        return Alive(
            max(self.one.logits + more * (self.two.logits - self.one.logits), 0),
            max(self.one.other + more * (self.two.other - self.one.other), 0),
        )


@dataclass(frozen=True)
class Training:
    """A forward and backward pass.

    Args:
        passing: each gradient dropped once it is whole (ZeRO), or added to one that was there before.
        first: gradients stay, and none was there before; they are among the bytes.
    """

    passing: Linear
    first: Linear


@dataclass(frozen=True)
class Trained:
    """A model that trains: its weights and its passes, without and with checkpointing.

    Args:
        weights: all of it. largest: numbers of its largest trained parameter.
    """

    weights: Count
    largest: int
    plain: Training
    checkpointed: Training

    def training(self, checkpointing: bool) -> Training:
        """The passes with or without it."""
        return self.checkpointed if checkpointing else self.plain


@dataclass(frozen=True)
class Sampling:
    """Writing responses: bytes beside the weights.

    Args:
        cache_row: keys and values of one row over prompt and response. read: reading prompts, without that.
        step: writing one token for all rows.
    """

    cache_row: int
    read: Linear
    step: Linear


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


def trace_sft(config: PreTrainedConfig, length: int, labelled: int, precision: str, autocast: bool) -> Trained:
    """Supervised fine-tuning on rows of `length` tokens, `labelled` of them in the loss.

    The head runs at the labelled tokens alone, as `sft.loss` has it, whose boolean index shapes cannot follow.
    """
    with floating(dtype_of(precision, autocast)):
        model = language_model(config, fused=False)

    def make(rows: int) -> Work:
        ids = torch.zeros(rows, length, dtype=torch.long)
        kept = torch.arange(rows * labelled)
        targets = torch.zeros(rows * labelled, dtype=torch.long)

        def loss() -> Tensor:
            handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, x: (x[0].flatten(0, 1)[kept],))
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            handle.remove()
            return F.cross_entropy(output.logits.float(), targets, reduction="sum")

        return loss, [ids, kept, targets]

    return _trained(model, model, config.vocab_size, make, autocast)


def trace_reward(config: PreTrainedConfig, length: int, frozen: float, precision: str, autocast: bool) -> Trained:
    """Reward-model training; a row of the passes is a pair."""
    with floating(dtype_of(precision, autocast)):
        model = classifier(config)
    freeze_bottom(model, frozen)
    objective = PairObjective("last_token", score_head(model))

    def make(pairs: int) -> Work:
        ids = torch.zeros(2 * pairs, length, dtype=torch.long)
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "gold": torch.zeros(pairs)}
        return lambda: objective(model, batch), list(batch.values())

    return _trained(model, model, config.vocab_size, make, autocast)


def trace_scoring(config: PreTrainedConfig, length: int, precision: str) -> tuple[Count, Linear]:
    """A finished reward model and its pass over texts."""
    with floating(dtype_of(precision)):
        model = classifier(config).eval()

    def make(rows: int) -> Work:
        ids = torch.zeros(rows, length, dtype=torch.long)
        return lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, [ids]

    return count(model), _free(model, config.vocab_size, make)


def trace_writing(config: PreTrainedConfig, prompt: int, response: int, precision: str, slices: bool) -> Any:
    """(weights, `Sampling`) of a policy that is judged."""
    with floating(dtype_of(precision)):
        model = language_model(config, fused=True).eval()
    return count(model), _sampling(model, config.vocab_size, prompt, response, slices)


def trace_ppo(
    config: PreTrainedConfig,
    critic: PreTrainedConfig | None,
    prompt: int,
    response: int,
    unfrozen: int,
    precision: str,
    autocast: bool,
    slices: bool,
) -> PolicyPasses:
    """PPO of `config`'s model, the top `unfrozen` blocks of it (-1: all).

    Args:
        critic: of a reward model that is the critic; None for the head on the policy.
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
        batch = _response_batch(rows, prompt, response)
        trunk = torch.zeros(rows, prompt + response, config.hidden_size, dtype=base.dtype) if trunk_row else None
        more = {"trunk": trunk, "with_reference": with_reference, "response_pass": True}
        return lambda: model(**batch, **more), [*batch.values(), *([trunk] if trunk is not None else [])]

    def make(rows: int) -> Work:
        run, inputs = rows_of(rows, False)

        def loss() -> Tensor:
            output = run()
            return output["logprobs"].sum() + output["values"].float().sum()

        return loss, inputs

    trained = _trained(model, base, vocabulary, make, autocast)
    model.eval()
    with _autocast(autocast):
        collect = _free(model, vocabulary, lambda rows: rows_of(rows, True))
        sampling = _sampling(base, vocabulary, prompt, response, slices)
    reference = count(model.frozen_head)
    return PolicyPasses(trained, reference, count(model.v_head), trunk_row, sampling, collect)


def _response_batch(rows: int, prompt: int, response: int) -> dict[str, Tensor]:
    return {
        "query": torch.zeros(rows, prompt, dtype=torch.long),
        "query_mask": torch.ones(rows, prompt, dtype=torch.bool),
        "response": torch.zeros(rows, response, dtype=torch.long),
        "response_mask": torch.ones(rows, response, dtype=torch.bool),
    }


def _trained(
    model: nn.Module, base: Any, vocabulary: int, make: Callable[[int], Work], autocast: bool
) -> Trained:
    """Both kinds of passes of a model that trains; `base` is the part whose blocks are checkpointed."""
    model.train()
    with _autocast(autocast):
        plain = _training(model, vocabulary, make)
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        checkpointed = _training(model, vocabulary, make)
        base.gradient_checkpointing_disable()
    largest = max(p.numel() for p in model.parameters() if p.requires_grad)
    return Trained(count(model), largest, plain, checkpointed)


def _training(model: nn.Module, vocabulary: int, make: Callable[[int], Work]) -> Training:
    def alive(rows: int, keep: bool) -> Alive:
        work, inputs = make(rows)
        with contextlib.nullcontext() if keep else dropping_gradients(model):
            with watching(model, vocabulary, *inputs) as live:
                work().backward()
        no_gradients(model)
        return live.worst

    return Training(*(Linear(alive(1, keep), alive(2, keep)) for keep in (False, True)))


def _free(model: nn.Module, vocabulary: int, make: Callable[[int], Work]) -> Linear:
    """A pass without gradients."""

    def alive(rows: int) -> Alive:
        work, inputs = make(rows)
        with torch.no_grad(), watching(model, vocabulary, *inputs) as live:
            work()
        return live.worst

    return Linear(alive(1), alive(2))


def _sampling(model: Any, vocabulary: int, prompt: int, response: int, slices: bool) -> Sampling:
    """What `trlx.generation.decoding` has alive; its loop itself looks at values, which shapes have not."""

    def read(rows: int) -> Work:
        ids = torch.zeros(rows, prompt, dtype=torch.long)
        # On a CPU a slice of rows is read into a cache of its own and placed into the big one.
        cache = DynamicCache(config=model.config) if slices else growing_cache(model, prompt + response)
        return lambda: _next_logits(model, ids, prompt, cache), [ids]

    def step(rows: int) -> Work:
        cache = _full_cache(model, rows, prompt, response)
        ids = torch.zeros(rows, 1, dtype=torch.long)

        def work() -> Tensor:
            logits = _next_logits(model, ids, prompt + response, cache)
            return torch.exp(logits)  # the mass that a token is drawn from

        return work, [ids, *_tensors(cache)]

    row = sum(tensor.untyped_storage().nbytes() for tensor in _tensors(_full_cache(model, 1, prompt, response)))
    reading = _free(model, vocabulary, read)
    if not slices:
        reading = Linear(*(Alive(a.logits, a.other - n * row) for n, a in ((1, reading.one), (2, reading.two))))
    return Sampling(row, reading, _free(model, vocabulary, step))


def _full_cache(model: Any, rows: int, prompt: int, response: int) -> DynamicCache:
    """A cache with all places filled but the last."""
    cache = growing_cache(model, prompt + response)
    with torch.no_grad():
        _next_logits(model, torch.zeros(rows, prompt, dtype=torch.long), prompt, cache)
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            layer.length = prompt + response - 1
    return cache


def _tensors(cache: DynamicCache) -> list[Tensor]:
    return [t for layer in cache.layers if isinstance(layer, GrowingLayer) and layer.buffers for t in layer.buffers]


def _next_logits(model: Any, ids: Tensor, seen: int, cache: DynamicCache) -> Tensor:
    mask = torch.ones(len(ids), seen, dtype=torch.long)
    places = position_ids(mask)[:, -ids.shape[1] :]
    output = model(input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1].float()
    return logits


def _autocast(on: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if on else contextlib.nullcontext()
