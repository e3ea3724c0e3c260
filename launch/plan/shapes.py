"""Models without weights: their exact sizes, and the bytes that a piece of work on them has alive at its worst moment.

Everything runs on fake tensors, which have shape, dtype and lifetime and no data: the very modules and passes of the
stages are run, so that what is counted is what they allocate, whatever the architecture. Counted are storages, as torch
makes and drops them; what a kernel takes for itself and gives back inside (a few MB) and the allocator's rounding are
left out.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from launch.plan.effort import Tally


@contextlib.contextmanager
def on_shapes() -> Iterator[None]:
    """Within it tensors have no data; models are made and copied in no time and no memory."""
    mode = FakeTensorMode()
    with mode, FakeCopyMode(mode):
        yield


@dataclass(frozen=True)
class Count:
    """The numbers in some weights, and their bytes.

    Args:
        numbers: of parameters, tied ones once. trained: of those with a gradient.
        tensor_bytes: of parameters in their present dtypes. buffer_bytes: of buffers (GPT-Neo's masks, say).
    """

    numbers: int
    trained: int
    tensor_bytes: int
    buffer_bytes: int

    @property
    def bytes(self) -> int:
        """Of parameters and buffers."""
        return self.tensor_bytes + self.buffer_bytes


def count(*modules: nn.Module | None, without: nn.Module | None = None) -> Count:
    """The weights of some modules, each storage once; those that `without` has too are left out."""
    seen = {id(weight) for weight in (without.parameters() if without is not None else ())}
    seen |= {id(buffer) for buffer in (without.buffers() if without is not None else ())}
    weights = {id(p): p for module in modules if module is not None for p in module.parameters() if id(p) not in seen}
    buffers = {id(b): b for module in modules if module is not None for b in module.buffers() if id(b) not in seen}
    return Count(
        numbers=sum(p.numel() for p in weights.values()),
        trained=sum(p.numel() for p in weights.values() if p.requires_grad),
        tensor_bytes=sum(p.numel() * p.element_size() for p in weights.values()),
        buffer_bytes=sum(b.numel() * b.element_size() for b in buffers.values()),
    )


@dataclass(frozen=True)
class Alive:
    """Bytes at the worst moment of a piece of work: those of tensors over the vocabulary, and all others.

    Weights and inputs, which were there before, are not among them.
    """

    logits: int
    other: int

    @property
    def total(self) -> int:
        """Both."""
        return self.logits + self.other


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make, and that are dropped again; tallies the operations themselves.

    Args:
        vocabulary: a floating-point tensor whose last axis is so long counts as logits.
        known: tensors that were there before.
    """

    def __init__(self, vocabulary: int, known: Iterable[Tensor] = ()):
        super().__init__()
        self.vocabulary = vocabulary
        self.tally = Tally()
        self._sizes: dict[int, tuple[int, bool]] = {}  # by storage: (bytes, whether logits)
        self.now = {True: 0, False: 0}
        self.worst = Alive(0, 0)
        for tensor in known:
            self._sizes[tensor.untyped_storage()._cdata] = (0, False)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        self.tally.add(function, args, kwargs or {}, output)
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return output

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        logits = tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary and tensor.is_floating_point()
        self._sizes[key] = (storage.nbytes(), logits)
        self.now[logits] += storage.nbytes()
        weakref.finalize(storage, self._dropped, key)
        if sum(self.now.values()) > self.worst.total:
            self.worst = Alive(self.now[True], self.now[False])

    def _dropped(self, key: int) -> None:
        size, logits = self._sizes.pop(key)
        self.now[logits] -= size


@contextlib.contextmanager
def watching(model: nn.Module, vocabulary: int, *inputs: Tensor | None) -> Iterator[LiveBytes]:
    """Counts what is alive within the block beside the model and its inputs."""
    known = [*model.parameters(), *model.buffers(), *(tensor for tensor in inputs if tensor is not None)]
    with LiveBytes(vocabulary, known) as live:
        yield live


@contextlib.contextmanager
def dropping_gradients(model: nn.Module) -> Iterator[None]:
    """Within it a gradient is dropped as soon as it is whole, as ZeRO does once it has reduced it."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    trained = [p for p in model.parameters() if p.requires_grad]
    handles = [p.register_post_accumulate_grad_hook(drop) for p in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def no_gradients(model: nn.Module) -> None:
    """Forget the gradients there are."""
    for parameter in model.parameters():
        parameter.grad = None


@contextlib.contextmanager
def floating(dtype: torch.dtype) -> Iterator[None]:
    """Within it models are made in this dtype, as DeepSpeed trains them in 16 bit: heads and copies too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
