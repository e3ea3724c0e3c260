"""The one record that travels from rollout to loss.

Shapes: N responses, P longest prompt, R longest response, T = P + R, H hidden size. Masks: True = real token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Rollouts:
    """Responses of one rank with everything that training on them needs."""

    query: Tensor  # (N, P) prompt ids, left-padded
    query_mask: Tensor  # (N, P) bool
    response: Tensor  # (N, R) the ids that were sampled, right-padded
    response_mask: Tensor  # (N, R) bool, EOS included
    logprobs: Tensor  # (N, R) nats, of the sampling policy
    ref_logprobs: Tensor  # (N, R) nats, of the reference
    values: Tensor  # (N, R) V of the state before each token
    scores: Tensor  # (N,) one a response, or (N, R) one a token; clipped and scaled
    trunk: Tensor | None = None  # (N, T, H) the frozen trunk's output
    rewards: Tensor | None = None  # (N, R) per token, after the KL penalty
    advantages: Tensor | None = None  # (N, R) whitened over all ranks
    returns: Tensor | None = None  # (N, R)

    def __len__(self) -> int:
        return self.query.shape[0]

    @property
    def input_ids(self) -> Tensor:
        """(N, T) prompt and response ids."""
        return torch.cat([self.query, self.response], dim=1)

    @property
    def attention_mask(self) -> Tensor:
        """(N, T) long, 1 = real token."""
        return torch.cat([self.query_mask, self.response_mask], dim=1).long()

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def select(self, indices: Tensor) -> Rollouts:
        """Some rows, cut to their own longest prompt and response."""
        rows = Rollouts(**{name: value[indices] for name, value in self.tensors().items()})
        prompt = int(rows.query_mask.sum(dim=1).max())
        response = max(int(rows.response_mask.sum(dim=1).max()), 1)
        return rows._cut(prompt, response)

    def _cut(self, prompt: int, response: int) -> Rollouts:
        width = self.query.shape[1]
        slices = {
            "prompt": slice(width - prompt, width),
            "response": slice(response),
            "both": slice(width - prompt, width + response),
        }
        fields = self.tensors().items()
        return Rollouts(
            **{name: value if value.dim() == 1 else value[:, slices[_AXIS[name]]] for name, value in fields}
        )

    def batches(self, n_batches: int, n_minibatches: int, generator: torch.Generator) -> Iterator[list[Rollouts]]:
        """One shuffled pass: `n_batches` optimizer steps of `n_minibatches` microbatches, as equal in size as can be.

        Every rank makes the same number of both, whatever N, so that no rank waits for another. Where a batch has fewer
        rows than microbatches, the missing ones hold a row whose mask is empty and whose gradient is zero.
        """
        order = torch.randperm(len(self), generator=generator)
        for batch in order.tensor_split(n_batches):
            yield [self.select(part) if len(part) else self._empty() for part in batch.tensor_split(n_minibatches)]

    def _empty(self) -> Rollouts:
        row = self.select(torch.zeros(1, dtype=torch.long))
        return dataclasses.replace(row, response_mask=torch.zeros_like(row.response_mask))

    def to(self, device: Any) -> Rollouts:
        """On another device."""
        return Rollouts(**{name: value.to(device) for name, value in self.tensors().items()})

    @classmethod
    def join(cls, chunks: list[Rollouts]) -> Rollouts:
        """Chunks of different widths as one: prompts padded on the left, responses on the right, states with zeros."""
        prompt = max(chunk.query.shape[1] for chunk in chunks)
        response = max(chunk.response.shape[1] for chunk in chunks)
        names = chunks[0].tensors()
        padded = {
            name: [_pad(name, getattr(chunk, name), chunk, prompt, response) for chunk in chunks] for name in names
        }
        return cls(**{name: torch.cat(values) for name, values in padded.items()})


# Which axis of a field is its second: prompt, response (the rest), or both.
_AXIS = {item.name: "response" for item in dataclasses.fields(Rollouts)} | {
    "query": "prompt",
    "query_mask": "prompt",
    "trunk": "both",
}


def _pad(name: str, value: Tensor, chunk: Rollouts, prompt: int, response: int) -> Tensor:
    if value.dim() == 1:
        return value
    left = prompt - chunk.query.shape[1] if _AXIS[name] in ("prompt", "both") else 0
    right = response - chunk.response.shape[1] if _AXIS[name] in ("response", "both") else 0
    pads = (0, 0) * (value.dim() - 2) + (left, right)
    return torch.nn.functional.pad(value, pads)
