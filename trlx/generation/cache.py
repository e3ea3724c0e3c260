"""The key/value cache of our own decoding loop: memory taken once, rows that finish leave it.

transformers' dynamic cache is copied whole at every token, half of a step's time on one CPU thread (GPT-Neo 8 × 256,
32 rows). Here a layer takes its memory once and writes each new token in place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class GrowingLayer(DynamicLayer):
    """One layer's keys and values, written in place up to `capacity` positions; `keys` and `values` view what is real.

    Rows stay where they are when others leave: only the holes are filled, so leaving costs what has moved.
    """

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity, self.length = capacity, 0
        self.buffers: tuple[Tensor, Tensor] | None = None  # (B, heads, capacity, head size) each

    def place(self, rows: Tensor, keys: Tensor, values: Tensor, batch_size: int) -> None:
        """Write keys and values (b, heads, n, size) of the given rows so that they end at the layer's `length`."""
        if self.buffers is None:
            self.lazy_initialization(keys, values)
            # Zeros: a masked position still enters a product, and whatever stood there before may be not-a-number.
            self.buffers = (self._empty(keys, batch_size), self._empty(values, batch_size))
        start = self.length - keys.shape[2]
        for buffer, new in zip(self.buffers, (keys, values), strict=True):
            buffer[rows, :, start : self.length] = new
        self._show(batch_size)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append (B, heads, n, size) and return all keys and values so far."""
        batch_size, new = key_states.shape[0], key_states.shape[2]
        self.length += new
        if self.buffers is None:
            self.place(torch.arange(batch_size, device=key_states.device), key_states, value_states, batch_size)
        else:
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:batch_size, :, self.length - new : self.length] = states
            self._show(batch_size)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices` (n,), in this order."""
        if self.buffers is None:
            return
        moved = (indices != torch.arange(len(indices), device=indices.device)).nonzero().squeeze(1)
        for buffer in self.buffers:
            buffer[moved, :, : self.length] = buffer[indices[moved], :, : self.length]
        self._show(len(indices))

    def get_seq_length(self) -> int:
        """Positions held."""
        return self.length

    def _empty(self, like: Tensor, batch_size: int) -> Tensor:
        return like.new_zeros(batch_size, like.shape[1], self.capacity, like.shape[3])

    def _show(self, batch_size: int) -> None:
        assert self.buffers is not None
        self.keys, self.values = (buffer[:batch_size, :, : self.length] for buffer in self.buffers)


def growing_cache(model: PreTrainedModel, capacity: int) -> DynamicCache:
    """The model's own dynamic cache, its plain layers replaced by ones that grow in place."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def place(cache: DynamicCache, rows: Tensor, part: DynamicCache, batch_size: int, length: int) -> None:
    """Write what `part` holds of `rows` (b,) into a cache that `grows_in_place`, right-aligned at `length`."""
    for layer, read in zip(cache.layers, part.layers, strict=True):
        assert isinstance(layer, GrowingLayer) and isinstance(read, DynamicLayer)
        assert read.keys is not None and read.values is not None
        layer.length = length
        layer.place(rows, read.keys, read.values, batch_size)


def rows_can_leave(cache: DynamicCache) -> bool:
    """Whether every layer holds nothing but keys and values with the row first, so that rows can be taken out exactly.

    Linear attention, indexers and quantised layers keep more than that, by subclassing: exact types are asked for.
    """
    return all(type(layer) in (GrowingLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def grows_in_place(cache: DynamicCache) -> bool:
    """Whether every layer sees the whole sequence and is ours, so that a prompt can be placed row by row."""
    return all(type(layer) is GrowingLayer for layer in cache.layers)
