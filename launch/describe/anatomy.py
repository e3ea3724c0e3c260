"""A model taken apart: its modules in the order in which a forward pass runs them, with their weights' shapes.

The order is seen, not claimed by the config: the model runs once on tensors that have shapes and no data. Of blocks
that are alike one stands for all. Left out: what runs without a module (the sum around a block, softmax), dropout, and
encoder-decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from launch.plan.shapes import on_shapes
from trlx.utils.modeling import hf_get_decoder_blocks

TOKENS = 8  # of the row that is run; any number does


@dataclass(frozen=True)
class Step:
    """A module that ran.

    Args:
        name: within the model; within its block, for one in a block. kind: its class.
        weights: (name, shape) of its own, as they lie in memory.
        tied: the module whose weight it shares, for one that was met before; "" for none.
        output: size of the last dimension of what it gives; None where it gives no tensor.
    """

    name: str
    kind: str
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    tied: str
    output: int | None

    @property
    def numbers(self) -> int:
        """In its own weights; shared ones count where they were met first."""
        return 0 if self.tied else sum(torch.Size(shape).numel() for _, shape in self.weights)


@dataclass(frozen=True)
class Blocks:
    """Neighbouring blocks that are alike: the number of the first, how many, and the steps of one."""

    first: int
    count: int
    steps: tuple[Step, ...]

    @property
    def numbers(self) -> int:
        """In one block."""
        return sum(step.numbers for step in self.steps)


@dataclass(frozen=True)
class Anatomy:
    """A causal language model: steps before its blocks, the blocks, steps after them.

    Args:
        kind: the model's class. numbers: all that is in its weights, shared ones once.
    """

    kind: str
    numbers: int
    before: tuple[Step, ...]
    blocks: tuple[Blocks, ...]
    after: tuple[Step, ...]

    @property
    def counted(self) -> int:
        """In the weights of all steps."""
        ends = sum(step.numbers for step in (*self.before, *self.after))
        return ends + sum(blocks.count * blocks.numbers for blocks in self.blocks)


def anatomy(config: Any) -> Anatomy:
    """Of the causal language model that a config describes; takes no memory and hardly any time.

    Args:
        config: transformers', of any family that has such a model.
    """
    with on_shapes():
        model = AutoModelForCausalLM.from_config(config).eval()
        ran = _run(model)
    blocks = hf_get_decoder_blocks(model)
    place = next(name for name, module in model.named_modules() if module is blocks)
    steps = _steps(model, ran)
    inside = [name.startswith(f"{place}.") for name in steps]
    first = inside.index(True)
    last = len(inside) - inside[::-1].index(True)
    whole = list(steps.values())
    return Anatomy(
        type(model).__name__,
        sum(weight.numel() for weight in model.parameters()),
        tuple(whole[:first]),
        tuple(alike(place, len(blocks), steps)),
        tuple(whole[last:]),
    )


def _run(model: PreTrainedModel) -> dict[str, int | None]:
    """Name of each module without modules in it → the last dimension of its output, in the order they ran."""
    ran: dict[str, int | None] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, given: Any, output: Any) -> None:
            ran.setdefault(name, int(output.shape[-1]) if isinstance(output, Tensor) else None)

        return note

    for name, module in model.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, nn.Dropout):
            module.register_forward_hook(noting(name))
    with torch.no_grad():
        model(input_ids=torch.zeros(1, TOKENS, dtype=torch.long), use_cache=False)
    return ran


def _steps(model: nn.Module, ran: Mapping[str, int | None]) -> dict[str, Step]:
    owners: dict[int, str] = {}
    steps = {}
    for name, output in ran.items():
        module = model.get_submodule(name)
        own = dict(module.named_parameters(recurse=False))
        tied = next((owners[id(weight)] for weight in own.values() if id(weight) in owners), "")
        for weight in own.values():
            owners.setdefault(id(weight), name)
        shapes = tuple((part, tuple(weight.shape)) for part, weight in own.items())
        steps[name] = Step(name, type(module).__name__, shapes, tied, output)
    return steps


def alike(place: str, count: int, steps: Mapping[str, Step]) -> list[Blocks]:
    """The blocks at `place`, neighbours of the same modules and shapes put together."""
    groups: list[Blocks] = []
    for number in range(count):
        head = f"{place}.{number}."
        own = tuple(
            Step(step.name.removeprefix(head), step.kind, step.weights, step.tied, step.output)
            for name, step in steps.items()
            if name.startswith(head)
        )
        if groups and groups[-1].steps == own:
            groups[-1] = Blocks(groups[-1].first, groups[-1].count + 1, own)
        else:
            groups.append(Blocks(number, 1, own))
    return groups
