"""Texts out, numbers back: the reward function is called once for all ranks, on the main one."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trlx.utils.errors import UserError

T = TypeVar("T")
RewardFn = Callable[..., Any]
LARGEST = torch.finfo(torch.float32).max


@dataclass
class Texts:
    """What a reward function sees of B responses."""

    prompts: list[str]
    outputs: list[str]  # a response that ended carries the end-of-sequence text, one that was cut does not
    samples: list[str]  # prompt and output
    metadata: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of several ranks or batches, in order."""
        names = parts[0].metadata
        return cls(
            prompts=[text for part in parts for text in part.prompts],
            outputs=[text for part in parts for text in part.outputs],
            samples=[text for part in parts for text in part.samples],
            metadata={name: [value for part in parts for value in part.metadata[name]] for name in names},
        )


@dataclass
class Scores:
    """What a reward function returned for N responses."""

    rows: list[list[float]]  # one number a response, or one a token
    dense: bool  # True = one a token

    @property
    def totals(self) -> Tensor:
        """(N,) float32, the sum of each response's numbers."""
        return torch.tensor([sum(row) for row in self.rows], dtype=torch.float32)

    def tensor(self, lengths: Sequence[int]) -> Tensor:
        """(N,) of single scores, or (N, R) of dense ones, cut or filled with 0 to each response's length."""
        if not self.dense:
            return self.totals
        padded = torch.zeros(len(self.rows), max(lengths))
        for row, (numbers, length) in enumerate(zip(self.rows, lengths, strict=True)):
            kept = numbers[:length]
            padded[row, : len(kept)] = torch.tensor(kept)
        return padded

    def clipped(self, limit: float) -> Scores:
        """Each number within ± limit."""
        return Scores([[min(max(number, -limit), limit) for number in row] for row in self.rows], self.dense)

    @property
    def finite(self) -> list[bool]:
        """Of each response, whether all its numbers and their sum are finite, in float32."""
        return [all(abs(number) <= LARGEST for number in (*row, sum(row))) for row in self.rows]

    def part(self, start: int, stop: int) -> Scores:
        """Those of some responses."""
        return Scores(self.rows[start:stop], self.dense)


class NotFiniteScores(UserError):
    """Scores that nothing can be learned from; raised on every rank."""


def score_all_ranks(
    accelerator: Accelerator,
    reward_fn: RewardFn,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    finite: bool = True,
) -> tuple[Scores, Scores]:
    """Score the responses of every rank in one call of `reward_fn` on the main rank.

    Every rank must call it. An error of the reward function is raised on every rank, so that none is left waiting.

    Args:
        finite: whether to raise NotFiniteScores for a number that is not, rather than to return it.

    Returns: (scores of this rank's responses, scores of all ranks').
    """
    parts: list[Texts] = gather_object([texts])
    scores = on_main_rank(accelerator, lambda: call_reward_fn(reward_fn, tokenizer, Texts.join(parts), finite=False))
    if finite:
        _require_finite(scores, [output for part in parts for output in part.outputs])
    start = sum(len(part.outputs) for part in parts[: accelerator.process_index])
    return scores.part(start, start + len(texts.outputs)), scores


def on_main_rank(accelerator: Accelerator, act: Callable[[], T]) -> T:
    """Run a user's function on the main rank; every rank returns its result, or raises with its traceback.

    Every rank must call it; none is left waiting when the function fails.
    """
    answer: list[Any] = [None, None, None]  # result, what to tell the user, traceback
    failure: Exception | None = None
    if accelerator.is_main_process:
        try:
            answer[0] = act()
        except Exception as error:
            if accelerator.num_processes == 1:
                raise
            failure, answer[2] = error, "".join(traceback.format_exception(error))
            answer[1] = str(error) if isinstance(error, UserError) else None
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise failure or UserError(answer[1])
    if answer[2] is not None:
        raise RuntimeError(f"a function of yours failed on the main rank:\n{answer[2]}") from failure
    return answer[0]


def call_reward_fn(
    reward_fn: RewardFn, tokenizer: PreTrainedTokenizerBase, texts: Texts, finite: bool = True
) -> Scores:
    """One number a response, or one a token.

    Args:
        finite: whether each must be finite.

    Raises: UserError when the reward function returns anything else.
    """
    further = {"tokenizer": tokenizer} if _takes(reward_fn, "tokenizer") else {}
    returned = reward_fn(
        samples=texts.samples, prompts=texts.prompts, outputs=texts.outputs, **further, **texts.metadata
    )
    single = isinstance(returned, (str, bytes, Mapping)) or getattr(returned, "ndim", None) == 0
    if single or not isinstance(returned, Sized):
        raise UserError(f"reward_fn must return a list with one score a sample, not {_short(returned)}")
    if len(returned) != len(texts.outputs):
        raise UserError(f"reward_fn returned {len(returned)} scores for {len(texts.outputs)} samples")
    rows: Any = returned
    tensors = [_as_numbers(score, index, texts) for index, score in enumerate(rows)]
    if all(score.shape == (1,) for score in tensors):  # what a reward model's (B, 1) logits look like
        tensors = [score.squeeze(0) for score in tensors]
    dense = any(score.dim() == 1 for score in tensors)
    if any(score.dim() != int(dense) for score in tensors):
        raise UserError("reward_fn must return one number for each sample, or a list of numbers for each")
    scores = Scores([score.reshape(-1).tolist() for score in tensors], dense)
    if finite:
        _require_finite(scores, texts.outputs)
    return scores


def _require_finite(scores: Scores, outputs: Sequence[str]) -> None:
    if not all(scores.finite):
        index = scores.finite.index(False)
        score = scores.rows[index] if scores.dense else scores.rows[index][0]
        raise NotFiniteScores(
            f"reward_fn returned {_short(score)}, which is not finite, for sample {index}: {outputs[index]!r}"
        )


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function can be given that argument: those written for early versions of trlX know no tokenizer."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C
        return True
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _as_numbers(score: Any, index: int, texts: Texts) -> Tensor:
    about = f"for sample {index}: {texts.outputs[index]!r}"
    try:
        return torch.as_tensor(score, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"reward_fn must return numbers, not {_short(score)} {about}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."
