"""Running part of a transformer through its own forward: the frozen trunk once, the rest as often as needed.

The model's own `forward` always runs from token ids and attention mask, so that masks, positions and rotary angles
are the model's. To leave out the bottom k blocks they are replaced, for the length of one call, by stubs of which the
last returns the hidden state kept earlier (`Trunk.replaying`). To run the reference, the trainable modules are
replaced, for the length of one call, by frozen copies of themselves (`FrozenCopies`). No architecture is named here.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from trlx.utils.blocks import find_blocks, freeze_below, modules_before_blocks, run_two_tokens


def blocks_return_tuples(model: PreTrainedModel, blocks: nn.ModuleList) -> bool:
    """Whether this family's blocks return (hidden state, ...) rather than the hidden state, found by running."""
    outputs: list[Any] = []
    run_two_tokens(model, [blocks[0].register_forward_hook(lambda _, __, output: outputs.append(output))])
    return isinstance(outputs[0], tuple)


def freeze_bottom(model: PreTrainedModel, num_layers_unfrozen: int) -> int:
    """Freeze all but the top blocks.

    Args:
        model: its parameters' `requires_grad` is set.
        num_layers_unfrozen: −1 freezes nothing; n > 0 freezes all but the top n blocks and everything that runs before
            block 0 (embeddings and positions, so a tied head too), while final norm and an untied head train; 0 freezes
            everything.

    Returns: how many bottom blocks are frozen, with everything below them: 0 when nothing is.
    Raises: UserError when n exceeds the model's layers.
    """
    model.requires_grad_(True)
    return freeze_below(model, num_layers_unfrozen)


def frozen_depth(model: PreTrainedModel, blocks: nn.ModuleList) -> int:
    """How many bottom blocks have no weight that trains; 0 when something before block 0 trains."""
    before = modules_before_blocks(model, blocks)
    if any(parameter.requires_grad for module in before for parameter in module.parameters(recurse=False)):
        return 0
    trains = [any(parameter.requires_grad for parameter in block.parameters()) for block in blocks]
    return trains.index(True) if True in trains else len(blocks)


class _Stub(nn.Module):
    """Stands in for a block that is not run: hands its input on, or the state it was given."""

    def __init__(self, returns_tuple: bool, state: Tensor | None = None):
        super().__init__()
        self.returns_tuple, self.state = returns_tuple, state

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        hidden = hidden_states if self.state is None else self.state
        return (hidden, None) if self.returns_tuple else hidden


class Trunk:
    """The bottom k ≥ 1 blocks of a model: their output kept in one pass, replayed in others."""

    def __init__(self, model: PreTrainedModel, depth: int):
        self.blocks, self.depth = find_blocks(model), depth
        self.returns_tuple = blocks_return_tuples(model, self.blocks)

    @property
    def top(self) -> nn.Module:
        """The trunk's last block."""
        return self.blocks[self.depth - 1]

    @contextlib.contextmanager
    def keeping(self) -> Iterator[list[Tensor]]:
        """Within the block, a forward appends the trunk's output (B, T, H) to the list that is yielded.

        Also where that output is replayed: the stub that stands in for the trunk's last block is watched then.
        """
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handle = self.blocks[self.depth - 1].register_forward_hook(keep)
        try:
            yield kept
        finally:
            handle.remove()

    @contextlib.contextmanager
    def replaying(self, state: Tensor) -> Iterator[None]:
        """Within the block, the model's forward starts from `state` (B, T, H) instead of running the bottom blocks."""
        stubs = [_Stub(self.returns_tuple) for _ in range(self.depth - 1)] + [_Stub(self.returns_tuple, state)]
        with swapped([(self.blocks, str(i), stub) for i, stub in enumerate(stubs)]):
            yield


class FrozenCopies(nn.Module):
    """Frozen copies of every module of `model` that trains, which can take their places for one call.

    With the copies in place the model is what it was when they were made: the PPO reference. Modules that do not train
    are shared, so a model with only its top blocks unfrozen needs copies of those blocks, of the final norm and of an
    untied head; one that trains whole is copied whole.
    """

    def __init__(self, model: PreTrainedModel, blocks: nn.ModuleList):
        super().__init__()
        # transformers hooks its blocks when hidden states are first asked for; the copies must have those hooks too.
        run_two_tokens(model, output_hidden_states=True)
        self._places: list[tuple[nn.Module, str]] = []
        memo: dict[int, Any] = {}  # keeps tied parameters tied among the copies
        copies = []
        parts = _trainable_parts(model, blocks)
        for parent, name, module in parts:
            self._places.append((parent, name))
            copies.append(copy.deepcopy(module, memo).requires_grad_(False).eval())
        self.copies = nn.ModuleList(copies)
        head: Any = model.get_output_embeddings()
        of_copies = {id(module): twin for (*_, module), twin in zip(parts, copies, strict=True)}
        self._head = [of_copies.get(id(head), head)]  # in a list: it is registered elsewhere

    @property
    def lm_head(self) -> nn.Module:
        """The reference's output embeddings: the model's own where those do not train."""
        return self._head[0]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, the model runs with the frozen copies."""
        replacements = [(*place, module) for place, module in zip(self._places, self.copies, strict=True)]
        with swapped(replacements):
            yield


def _trainable_parts(model: PreTrainedModel, blocks: nn.ModuleList) -> list[tuple[nn.Module, str, nn.Module]]:
    """(parent, name, module) of each block that trains and of each module outside the blocks that does."""
    parts: list[tuple[nn.Module, str, nn.Module]] = []
    inside = {id(module) for block in blocks for module in block.modules()} | {id(blocks)}
    for parent in model.modules():
        for name, module in parent.named_children():
            own = next((p for p in module.parameters(recurse=False) if p.requires_grad), None) is not None
            if parent is blocks:
                own = any(parameter.requires_grad for parameter in module.parameters())
            elif id(module) in inside:
                continue
            if own:
                parts.append((parent, name, module))
    return parts


@contextlib.contextmanager
def head_inputs(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within the block, a forward appends what enters the output embeddings, (B, N, H), to the list that is yielded."""
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def swapped(replacements: list[tuple[nn.Module, str, nn.Module]]) -> Iterator[None]:
    """Within the block, each `parent.name` is the replacement; afterwards the original again.

    The module dictionaries are changed directly: nothing is registered anew, so wrappers around the model see nothing.
    """
    originals = [parent._modules[name] for parent, name, _ in replacements]
    try:
        for parent, name, module in replacements:
            parent._modules[name] = module
        yield
    finally:
        for (parent, name, _), original in zip(replacements, originals, strict=True):
            parent._modules[name] = original
