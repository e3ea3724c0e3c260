"""Running a pass on shapes and noting the bytes of its worst moment and what it does: training, free ones, writing.

A pass is run with one row and with the most rows that are asked for; in between a straight line is taken (`Linear`).
The worst moment's bytes and the seconds bend upwards with the rows: the line is exact at its ends and nowhere too low.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from launch.plan.effort import Effort, Speed
from launch.plan.shapes import Alive, Count, count, dropping_gradients, no_gradients, watching
from trlx.functional.masking import position_ids
from trlx.generation.cache import GrowingLayer, growing_cache

Work = tuple[Callable[[], Any], Sequence[Tensor]]  # what is run, and its inputs
Counted = tuple[Alive, Effort]


@dataclass(frozen=True)
class Linear:
    """Bytes and operations of a pass by its rows: with one, and with the most that were run."""

    one: Alive
    all: Alive
    most: int
    efforts: tuple[Effort, Effort] = (Effort(), Effort())

    def at(self, rows: int) -> Alive:
        """Bytes with so many rows."""
        part = self._part(rows)
        return Alive(
            round(self.one.logits + part * (self.all.logits - self.one.logits)),
            round(self.one.other + part * (self.all.other - self.one.other)),
        )

    def seconds(self, rows: int, speed: Speed) -> float:
        """Of a pass with so many rows."""
        one, every = (effort.seconds(speed) for effort in self.efforts)
        return one + self._part(rows) * (every - one)

    def _part(self, rows: int) -> float:
        return (rows - 1) / max(self.most - 1, 1)


@dataclass(frozen=True)
class Training:
    """A forward and backward pass.

    Args:
        passing: each gradient dropped once it is whole (ZeRO), or added to one that was there before.
        first: gradients stay, and none was there before; they are among the bytes. None where ZeRO never lets them.
    """

    passing: Linear
    first: Linear | None


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


def keeps(precision: str, autocast: bool) -> bool:
    """Whether such a model may train without ZeRO: DeepSpeed alone trains weights of 16 bit."""
    return autocast or precision == "fp32"


def count_training(
    model: nn.Module, base: Any, vocabulary: int, make: Callable[[int], Work], most: int, keep: bool, autocast: bool
) -> Trained:
    """Both kinds of passes of a model that trains; `base` is the part whose blocks are checkpointed."""
    model.train()
    with cast(autocast):
        plain = _training(model, vocabulary, make, most, keep)
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        checkpointed = _training(model, vocabulary, make, most, keep)
        base.gradient_checkpointing_disable()
    largest = max(p.numel() for p in model.parameters() if p.requires_grad)
    return Trained(count(model), largest, plain, checkpointed)


def _training(model: nn.Module, vocabulary: int, make: Callable[[int], Work], most: int, keep: bool) -> Training:
    def alive(rows: int, keeping: bool) -> Counted:
        work, inputs = make(rows)
        letting = contextlib.nullcontext() if keeping else dropping_gradients(model)
        with letting, watching(model, vocabulary, *inputs) as live:
            work().backward()
        no_gradients(model)
        return live.worst, live.tally.finish()

    first = _line(lambda rows: alive(rows, True), most) if keep else None
    return Training(_line(lambda rows: alive(rows, False), most), first)


def count_free(model: nn.Module, vocabulary: int, make: Callable[[int], Work], most: int) -> Linear:
    """A pass without gradients."""

    def alive(rows: int) -> Counted:
        work, inputs = make(rows)
        with torch.no_grad(), watching(model, vocabulary, *inputs) as live:
            work()
        return live.worst, live.tally.finish()

    return _line(alive, most)


def _line(counted: Callable[[int], Counted], most: int) -> Linear:
    one = counted(1)
    every = counted(most) if most > 1 else one
    return Linear(one[0], every[0], most, (one[1], every[1]))


def count_sampling(model: Any, vocabulary: int, prompt: int, response: int, most: int, slices: bool) -> Sampling:
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
    reading = count_free(model, vocabulary, read, most)
    if not slices:  # the cache is a part of its own
        one, every = reading.one, reading.all
        without = Alive(one.logits, one.other - row), Alive(every.logits, every.other - most * row)
        reading = Linear(*without, most, reading.efforts)
    return Sampling(row, reading, count_free(model, vocabulary, step, most))


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
    tensors: list[Tensor | None] = []
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            tensors += layer.buffers or ()
        elif isinstance(layer, CacheLayerMixin):
            tensors += (layer.keys, layer.values)
    return [tensor for tensor in tensors if tensor is not None]


def _next_logits(model: Any, ids: Tensor, seen: int, cache: DynamicCache) -> Tensor:
    mask = torch.ones(len(ids), seen, dtype=torch.long)
    more: dict[str, Any] = {"logits_to_keep": 1, "position_ids": position_ids(mask)[:, -ids.shape[1] :]}
    taken = inspect.signature(model.forward).parameters
    more = {name: value for name, value in more.items() if name in taken}
    output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, **more)
    logits: Tensor = output.logits[:, -1].float()
    return logits


def cast(on: bool) -> contextlib.AbstractContextManager[Any]:
    """Within it operations run in 16 bit, where it is on."""
    return torch.autocast("cpu", torch.bfloat16) if on else contextlib.nullcontext()
