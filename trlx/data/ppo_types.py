"""The records that travel from rollout to loss: one response, and a batch of them.

Shapes: B batch, P prompt, R response, T = P + R, H hidden size. Masks: True = real token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass
class PPORLElement:
    """One response with what training on it needs, without pads. The first five fields are trlX's."""

    query_tensor: Tensor  # (P,) prompt ids
    response_tensor: Tensor  # (R,) the ids that were sampled, EOS included
    logprobs: Tensor  # (R,) nats, of the sampling policy
    values: Tensor  # (R,) V of the state before each token
    rewards: Tensor  # (R,) per token, after the KL penalty
    ref_logprobs: Tensor | None = None  # (R,) nats, of the reference
    trunk: Tensor | None = None  # (T, H) the frozen trunk's output
    advantages: Tensor | None = None  # (R,) whitened over the phase
    returns: Tensor | None = None  # (R,)
    clean: bool = False  # True = certainly without pads; elements from elsewhere are stripped by the store


@dataclass
class PPORLBatch:
    """B responses: prompts padded on the left, the rest on the right."""

    query_tensors: Tensor  # (B, P) ids
    response_tensors: Tensor  # (B, R) ids
    logprobs: Tensor  # (B, R)
    values: Tensor  # (B, R)
    rewards: Tensor  # (B, R)
    query_mask: Tensor | None = None  # (B, P) bool
    response_mask: Tensor | None = None  # (B, R) bool, EOS included
    ref_logprobs: Tensor | None = None  # (B, R)
    trunk: Tensor | None = None  # (B, T, H)
    advantages: Tensor | None = None  # (B, R)
    returns: Tensor | None = None  # (B, R)

    def __len__(self) -> int:
        return self.query_tensors.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are there, by name."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def rows(self, index: slice) -> PPORLBatch:
        """Some rows, cut to their own longest prompt and response."""
        part = PPORLBatch(**{name: value[index] for name, value in self.tensors().items()})
        if part.query_mask is None or part.response_mask is None or len(part) == 0:
            return part
        prompt = int(part.query_mask.sum(dim=1).max())
        response = max(int(part.response_mask.sum(dim=1).max()), 1)
        width = self.query_tensors.shape[1]
        cuts = {"query": slice(width - prompt, width), "both": slice(width - prompt, width + response)}
        return PPORLBatch(
            **{name: value[:, cuts.get(_AXIS.get(name, ""), slice(response))] for name, value in part.tensors().items()}
        )

    def to(self, device: Any) -> PPORLBatch:
        """On another device."""
        return PPORLBatch(**{name: value.to(device) for name, value in self.tensors().items()})


# Which axis is a field's second: prompt, prompt and response; the response for all others.
_AXIS = {"query_tensors": "query", "query_mask": "query", "trunk": "both"}
# Element field -> batch field, where the names differ.
_PLURAL = {"query_tensor": "query_tensors", "response_tensor": "response_tensors"}
# What travels flat in a checkpoint, by its length.
_FIELDS = [item.name for item in dataclasses.fields(PPORLElement) if item.name != "clean"]


def collate(elements: Sequence[PPORLElement], pad_token_id: int, with_trunk: bool = True) -> PPORLBatch:
    """Elements as a batch.

    Args:
        elements: at least one; an optional field is taken when all have it.
        pad_token_id: fills where the masks are False.
        with_trunk: False leaves the trunk's output out, which is large.
    """
    fields: dict[str, Tensor] = {}
    for name in _FIELDS:
        rows = [getattr(element, name) for element in elements]
        if name != "trunk" and not _missing(rows):
            filler = pad_token_id if name in _PLURAL else 0
            side = "left" if name == "query_tensor" else "right"
            fields[_PLURAL.get(name, name)] = pad_sequence(rows, True, filler, side)
    query, response = fields["query_tensors"], fields["response_tensors"]
    fields["query_mask"] = _mask([len(e.query_tensor) for e in elements], query.shape[1], query.device).flip(1)
    fields["response_mask"] = _mask([len(e.response_tensor) for e in elements], response.shape[1], query.device)
    if with_trunk and not _missing([element.trunk for element in elements]):
        fields["trunk"] = _collate_trunk(elements, query.shape[1], response.shape[1])
    return PPORLBatch(**fields)


def _missing(rows: Sequence[Tensor | None]) -> bool:
    return any(row is None for row in rows)


def _mask(lengths: list[int], width: int, device: torch.device) -> Tensor:
    return torch.arange(width, device=device) < torch.tensor(lengths, device=device).unsqueeze(1)


def _collate_trunk(elements: Sequence[PPORLElement], prompt: int, response: int) -> Tensor:
    """(B, T, H): each row's states where its tokens are, zeros at pads."""
    kept = [element.trunk for element in elements if element.trunk is not None]
    states = kept[0].new_zeros(len(elements), prompt + response, kept[0].shape[1])
    for row, element in enumerate(elements):
        start = prompt - len(element.query_tensor)
        states[row, start : start + len(kept[row])] = kept[row]
    return states


def pack(elements: Sequence[PPORLElement]) -> dict[str, Tensor]:
    """Elements as a few flat tensors, for a checkpoint."""
    packed = {
        "query_lengths": torch.tensor([len(element.query_tensor) for element in elements]),
        "response_lengths": torch.tensor([len(element.response_tensor) for element in elements]),
    }
    for name in _FIELDS:
        rows = [getattr(element, name) for element in elements]
        if not _missing(rows):
            packed[name] = torch.cat(rows)
    return packed


def unpack(packed: dict[str, Tensor], device: Any) -> list[PPORLElement]:
    """The elements that `pack` packed."""
    queries, responses = packed["query_lengths"].tolist(), packed["response_lengths"].tolist()
    both = [q + r for q, r in zip(queries, responses, strict=True)]
    lengths = {"query_tensor": queries, "trunk": both}
    columns = {name: packed[name].to(device).split(lengths.get(name, responses)) for name in _FIELDS if name in packed}
    return [PPORLElement(**{name: rows[i] for name, rows in columns.items()}, clean=True) for i in range(len(queries))]
