"""What a module of the model gave at every place of prompts and responses, gathered while they are written.

The rollout's training pass needs the frozen trunk's output; the decoding loop has computed it already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class KeptStates:
    """The outputs of `module`, by row and place."""

    def __init__(self, module: nn.Module):
        self.module = module
        self._pieces: list[tuple[Tensor, int, Tensor]] = []  # rows (b,), place after the last, states (b, n, H)

    @contextlib.contextmanager
    def watching(self, rows: Tensor, end: int) -> Iterator[None]:
        """Within the block, a forward of the model over rows (b,) and the places before `end` is noted."""

        def note(_: nn.Module, __: Any, output: Any) -> None:
            self._pieces.append((rows, end, output[0] if isinstance(output, tuple) else output))

        handle = self.module.register_forward_hook(note)
        try:
            yield
        finally:
            handle.remove()

    def finish(self, batch_size: int, width: int) -> Tensor:
        """(B, width, H): zeros where nothing was computed, which is at pads and at each row's last token."""
        first = self._pieces[0][2]
        whole = first.new_zeros(batch_size, width, first.shape[-1])
        for rows, end, states in self._pieces:
            whole[rows, end - states.shape[1] : end] = states
        return whole
