"""What a pass does, operation by operation: arithmetic and bytes moved, from shapes alone; and the seconds that takes.

Products of matrices are counted by torch's own formulas (`torch.utils.flop_counter`): the head at the positions that
need it, attention's squares, the trunk that is not run again, recomputation under checkpointing. Every other operation
counts as the bytes it reads and writes. Left out: caches, which make small tensors cheaper, and overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten
# What reads of its first input no more than it gives.
_LOOKUPS = (_ATEN.embedding, _ATEN.index, _ATEN.index_select, _ATEN.gather)
_UNTOUCHED = (_ATEN.empty, _ATEN.empty_like, _ATEN.empty_strided, _ATEN.new_empty, _ATEN.new_empty_strided)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


# The CPU's fused attention, which torch's table lacks.
_MORE: dict[Any, Callable[..., int]] = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


THIN = 2  # rows (or columns) up to which a product is one of a matrix and vectors


@dataclass(frozen=True)
class Speed:
    """Of one device, per second: operations, bytes of its memory, bytes to other devices and the host.

    Args:
        source: where the rates are from, for people.
        packed: bytes that products of matrices read and write. moved: bytes that all else reads and writes to new
            tensors. Either is `bandwidth` where it is 0.
        call: seconds of starting an operation.
    """

    operations: float
    bandwidth: float
    link: float
    source: str
    packed: float = 0.0
    moved: float = 0.0
    call: float = 0.0


@dataclass(frozen=True)
class Kind:
    """One operation's arithmetic (0 where it is no product of matrices), bytes read and written, and whether it is
    thin: a product of a matrix and a vector or two."""

    flops: int
    bytes: int
    thin: bool = False

    def seconds(self, speed: Speed) -> float:
        """A thin product takes as long as reading the matrix, a thick one its arithmetic and its bytes: kernels first
        bring both sides into an order of their own. All else takes its bytes."""
        if self.thin:
            return max(self.flops / speed.operations, self.bytes / speed.bandwidth)
        rate = speed.packed if self.flops else speed.moved
        return self.flops / speed.operations + self.bytes / (rate or speed.bandwidth)


@dataclass(frozen=True)
class Effort:
    """Operations, with how often each is done."""

    done: Mapping[Kind, int] = field(default_factory=dict)

    @property
    def products(self) -> int:
        """Arithmetic operations of all products of matrices."""
        return sum(kind.flops * times for kind, times in self.done.items())

    @property
    def bytes(self) -> int:
        """Read and written by all operations."""
        return sum(kind.bytes * times for kind, times in self.done.items())

    @property
    def calls(self) -> int:
        """How many operations there are."""
        return sum(self.done.values())

    def seconds(self, speed: Speed) -> float:
        """One after the other."""
        return sum(times * (speed.call + kind.seconds(speed)) for kind, times in self.done.items())


class Tally:
    """Adds up operations as they are dispatched."""

    def __init__(self) -> None:
        self.done: Counter[Kind] = Counter()

    def add(self, function: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Note an operation that has run. Args: as `__torch_dispatch__` has them; output: what it gave."""
        packet = function._overloadpacket
        flops = _flops(packet, args, kwargs, output)
        thin = flops > 0 and isinstance(output, Tensor) and min(output.shape[-2:]) <= THIN
        self.done[Kind(flops, _bytes(function, packet, args, kwargs, output), thin)] += 1

    def finish(self) -> Effort:
        """What was added."""
        return Effort(dict(self.done))


def _flops(packet: Any, args: Any, kwargs: Any, output: Any) -> int:
    formula = flop_registry.get(packet)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=output))
    own = _MORE.get(packet)
    return own(*args, **kwargs) if own is not None else 0


def _bytes(function: Any, packet: Any, args: Any, kwargs: Any, output: Any) -> int:
    """Read and written; nothing where the output is a view."""
    outputs = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    if packet in _UNTOUCHED or not outputs:
        return 0
    inputs = {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
    written = sum(map(_size, outputs))
    if packet in _LOOKUPS:
        return 2 * written
    if not function._schema.is_mutable:
        held = {tensor.untyped_storage()._cdata for tensor in inputs.values()}
        if all(tensor.untyped_storage()._cdata in held for tensor in outputs):
            return 0
    return written + sum(map(_size, inputs.values()))


def _size(tensor: Tensor) -> int:
    """Bytes of what it shows; of an expanded one, of what is behind it."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
