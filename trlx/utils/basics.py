"""Seeds, rounding, timing, trees of tensors, endless loaders: what scripts around an engine use."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trlx.utils.distributed import is_main_rank
from trlx.utils.metrics import is_scalar


def set_seed(seed: int) -> None:
    """Seed python, numpy and torch with `seed` plus this process's rank, so that ranks draw different numbers."""
    seed += int(os.environ.get("RANK", "0"))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # every CUDA device as well


def significant(x: Any, ndigits: int = 2) -> Any:
    """A number rounded to `ndigits` digits after its first significant one: 0.0012345 becomes 0.00123.

    A tensor of one element counts as its number; 0, not-a-number, infinities and anything else come back as they are.
    """
    if isinstance(x, Tensor):
        x = x.item()
    if not isinstance(x, (int, float, np.number)) or x == 0 or not math.isfinite(x):
        return x
    number: Any = x
    return round(number, ndigits - math.floor(math.log10(abs(number))))


def print_rank_0(*message: Any) -> None:
    """`print` on the main rank only."""
    if is_main_rank():
        print(*message)


class Clock:
    """A stopwatch that also counts samples."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.total_time = 0.0  # seconds, of the ticks that came with samples
        self.total_samples = 0

    def tick(self, samples: int = 0) -> float:
        """Seconds since the last tick.

        Args:
            samples: processed in that time; 0 leaves the time out of `get_stat`.
        """
        now = time.perf_counter()
        elapsed, self.start = now - self.start, now
        if samples:
            self.total_time += elapsed
            self.total_samples += samples
        return elapsed

    def get_stat(self, n_samp: int = 1000, reset: bool = False) -> float:
        """Mean seconds for `n_samp` samples, 0 before there are any.

        Args:
            reset: whether to count from nothing afterwards.
        """
        mean = self.total_time / self.total_samples if self.total_samples else 0.0
        if reset:
            self.total_time, self.total_samples = 0.0, 0
        return mean * n_samp


def tree_map(f: Callable[[Any], Any], tree: Any) -> Any:
    """`f` of every leaf of nested dataclasses, mappings, lists and tuples; the same structure comes back, new."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        leaves = {field.name: tree_map(f, getattr(tree, field.name)) for field in dataclasses.fields(tree)}
        return type(tree)(**leaves)
    if isinstance(tree, Mapping):
        return type(tree)({key: tree_map(f, value) for key, value in tree.items()})  # type: ignore[call-arg]
    if isinstance(tree, tuple) and type(tree) is not tuple:  # a named tuple takes its fields one by one
        return type(tree)(*(tree_map(f, value) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(tree_map(f, value) for value in tree)
    return f(tree)


def to_device(tree: Any, device: torch.device | str, non_blocking: bool = False) -> Any:
    """The tree with every tensor on `device`; other leaves stay as they are."""

    def move(leaf: Any) -> Any:
        return leaf.to(device, non_blocking=non_blocking) if isinstance(leaf, Tensor) else leaf

    return tree_map(move, tree)


def filter_non_scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers, and the tensors and arrays of one element, as floats; the rest is left out."""
    return {name: float(value) for name, value in values.items() if is_scalar(value)}


def get_git_tag() -> tuple[str, str]:
    """(branch, "short hash/date") of the working folder's repository; ("unknown", "unknown") without one, or git."""
    try:
        return _git("rev-parse", "--abbrev-ref", "HEAD"), _git("log", "-n1", "--format=%h/%as")
    except (OSError, subprocess.SubprocessError):
        return "unknown", "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, check=True, text=True, timeout=10).stdout.strip()


def infinite_dataloader(dataloader: Iterable[Any], sampler: Any = None) -> Iterator[Any]:
    """Passes over the loader without end.

    Args:
        sampler: a distributed sampler whose `set_epoch` is told the number of each pass; None for none.

    Raises: ValueError for a loader that gives nothing, which would never end.
    """
    epoch = 0
    while True:
        if sampler is not None:
            sampler.set_epoch(epoch)
        given = 0
        for batch in dataloader:
            given += 1
            yield batch
        if not given:
            raise ValueError("the dataloader is empty, or is an iterator that is used up: give one that can start anew")
        epoch += 1
