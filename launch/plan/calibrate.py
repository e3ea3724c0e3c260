"""Rates of one device here, in about two seconds: products, reading weights, moving activations, starting operations.

None of it is a stage's own work: square matrices, plain operations, and a toy model for what a call costs in Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GPTNeoConfig

from launch.plan.effort import Effort, Tally

TOY: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 32, "num_layers": 4, "num_heads": 2, "max_position_embeddings": 32},
    **{"bos_token_id": 0, "eos_token_id": 0, "attention_types": [[["global", "local"], 2]]},
}


FEW = 16  # rows of the thinner of two products, as when a chunk of responses is written


@dataclass(frozen=True)
class Rates:
    """What one device attains.

    Args:
        tflops: 10¹² operations a second of a product of matrices. packed: GB a second that it takes to read both and
            write the third, on top.
        bandwidth: GB a second, a large matrix read for one vector.
        moved: GB a second read and written by a sum, a GELU, a softmax and a layer norm that make new tensors.
        call: seconds of starting an operation.
    """

    tflops: float
    bandwidth: float
    packed: float
    moved: float
    call: float


class _Tallying(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        self.tally.add(function, args, kwargs or {}, output)
        return output


def effort_of(work: Callable[[], Any]) -> Effort:
    """What a piece of real work does."""
    with _Tallying() as seen:
        work()
    return seen.tally.finish()


def calibrate(device: str, precision: str, seconds: float = 0.5) -> Rates:
    """Rates of the first GPU ("cuda") or of this process ("cpu"). Args: seconds: of each of the five measurements."""
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    size = 8192 if device == "cuda" else 4096
    with torch.no_grad():
        wide = torch.randn(size, size, **options)

        def product(rows: int) -> float:
            given = torch.randn(rows, size, **options)
            return _each(lambda: given @ wide, device, seconds)

        many, reading = size // 16, product(1)
        operations, packed = two_rates(size, (FEW, many), (product(FEW), product(many)), wide.element_size())
        plain = torch.randn(size // 2, size // 4, **options)

        def moves() -> None:
            F.layer_norm(F.softmax(F.gelu(plain + plain, approximate="tanh"), -1), (plain.shape[-1],))

        moved = effort_of(moves).bytes / _each(moves, device, seconds)
        return Rates(operations / 1e12, wide.nbytes / reading / 1e9, packed / 1e9, moved / 1e9, _call(device, seconds))


def two_rates(size: int, rows: tuple[int, int], seconds: tuple[float, float], width: int) -> tuple[float, float]:
    """(operations, bytes) a second of products of (rows, size) and (size, size), from two that differ in their rows.

    Solved for: seconds = operations / first + bytes / second. Where noise leaves no such pair, the larger product's
    arithmetic is taken for all of its time, and the bytes to cost what is left of the smaller one's, or nothing.
    """
    (f1, f2), (b1, b2) = ([2.0 * n * size**2 for n in rows], [(size + 2.0 * n) * size * width for n in rows])
    determinant = f1 * b2 - f2 * b1
    per_operation = (seconds[0] * b2 - seconds[1] * b1) / determinant
    per_byte = (f1 * seconds[1] - f2 * seconds[0]) / determinant
    if per_operation <= 0 or per_byte <= 0:
        per_operation = seconds[1] / f2
        per_byte = max(seconds[0] - f1 * per_operation, 0.01 * seconds[0]) / b1
    return 1.0 / per_operation, 1.0 / per_byte


def _call(device: str, seconds: float) -> float:
    """A toy model's pass over one token, by its operations."""
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(GPTNeoConfig(**TOY)).to(device).eval()
    ids = torch.zeros(1, 1, dtype=torch.long, device=device)

    def work() -> Any:
        return model(input_ids=ids, use_cache=False)

    return _each(work, device, seconds) / effort_of(work).calls


def _each(work: Callable[[], Any], device: str, seconds: float) -> float:
    """Median seconds of doing it once, after once to warm up."""
    _timed(work, device)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        took.append(_timed(work, device))
    return median(took)


def _timed(work: Callable[[], Any], device: str) -> float:
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
