"""Texts out, numbers back: the reward function is called once for all ranks, on the main one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trlx.generation.sampling import Generated

T = TypeVar("T")
RewardFn = Callable[..., Any]


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


def decode(
    tokenizer: PreTrainedTokenizerBase, input_ids: Tensor, attention_mask: Tensor, made: Generated, metadata: Mapping
) -> Texts:
    """Texts of the very ids that were sampled; rollouts and evaluation read them the same way.

    Args:
        input_ids: (B, P) left-padded prompts. attention_mask: (B, P), 1 = real. made: their continuations.
    """

    def text(ids: Tensor) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    prompts = [text(ids[mask.bool()]) for ids, mask in zip(input_ids, attention_mask, strict=True)]
    outputs = []
    for ids, mask, ended in zip(made.response, made.response_mask, made.ended.tolist(), strict=True):
        real = ids[mask]
        outputs.append(text(real[:-1]) + str(tokenizer.eos_token) if ended else text(real))
    samples = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
    return Texts(prompts, outputs, samples, dict(metadata))


def score_all_ranks(
    accelerator: Accelerator, reward_fn: RewardFn, tokenizer: PreTrainedTokenizerBase, texts: Texts
) -> tuple[Tensor, Tensor]:
    """Score the responses of every rank in one call of `reward_fn` on the main rank.

    Every rank must call it. An error of the reward function is raised on every rank, so that none is left waiting.

    Returns: (scores of this rank's responses (B,), scores of all ranks' responses), float32 on the CPU.
    """
    parts: list[Texts] = gather_object([texts])
    numbers = on_main_rank(accelerator, lambda: call_reward_fn(reward_fn, tokenizer, Texts.join(parts)))
    start = sum(len(part.outputs) for part in parts[: accelerator.process_index])
    scores = torch.tensor(numbers, dtype=torch.float32)
    return scores[start : start + len(texts.outputs)], scores


def on_main_rank(accelerator: Accelerator, act: Callable[[], T]) -> T:
    """Run a user's function on the main rank; every rank returns its result, or raises its error.

    Every rank must call it; none is left waiting when the function fails.
    """
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            answer[0] = act()
        except Exception as error:
            if accelerator.num_processes == 1:
                raise
            answer[1] = f"{type(error).__name__}: {error}"
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise RuntimeError(f"the reward function failed on the main rank: {answer[1]}")
    return answer[0]


def call_reward_fn(reward_fn: RewardFn, tokenizer: PreTrainedTokenizerBase, texts: Texts) -> list[float]:
    """One finite number a response. Raises: ValueError when the reward function returns anything else."""
    scores = reward_fn(
        samples=texts.samples, prompts=texts.prompts, outputs=texts.outputs, tokenizer=tokenizer, **texts.metadata
    )
    if len(scores) != len(texts.outputs):
        raise ValueError(f"reward_fn returned {len(scores)} scores for {len(texts.outputs)} samples")
    tensors = [torch.as_tensor(score, dtype=torch.float64) for score in scores]
    if any(score.numel() != 1 for score in tensors):
        raise ValueError("reward_fn must return one number a sample (scores for each token are not available yet)")
    numbers = [score.item() for score in tensors]
    bad = [i for i, number in enumerate(numbers) if not torch.isfinite(torch.tensor(number))]
    if bad:
        raise ValueError(f"reward_fn returned {numbers[bad[0]]} for sample {bad[0]}: {texts.outputs[bad[0]]!r}")
    return numbers
