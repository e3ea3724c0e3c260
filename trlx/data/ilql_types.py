"""The records that ILQL trains on: one sample, and a batch of them.

Shapes: B batch, T tokens, A actions, S = A + 1 states, D decoder tokens. An action is a token of an output. It is
indexed by the position before it, its state, whose outputs predict it; the last state is the last token's position.
Pads are on the right and have `dones` 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trlx.functional.masking import last_real_index

B = TypeVar("B", bound="_Batch")


@dataclass
class ILQLElement:
    """One sample of a causal model."""

    input_ids: Tensor  # (T,) ids
    attention_mask: Tensor  # (T,) long, 1 = real token
    rewards: Tensor  # (A,) float32, of each action
    states_ixs: Tensor  # (S,) positions
    actions_ixs: Tensor  # (A,) positions before the actions
    dones: Tensor  # (S,) long, 1 = an action follows, 0 = the end (trlX's polarity)


@dataclass
class ILQLSeq2SeqElement:
    """One sample of an encoder-decoder; positions are the decoder's."""

    input_ids: Tensor  # (T,) ids of the prompt
    attention_mask: Tensor  # (T,) long, 1 = real token
    decoder_input_ids: Tensor  # (D,) the decoder's start token and the output
    rewards: Tensor  # (A,) float32
    states_ixs: Tensor  # (S,)
    actions_ixs: Tensor  # (A,)
    dones: Tensor  # (S,) long, 1 = an action follows


class _Batch:
    """What both kinds of batch can do."""

    input_ids: Tensor
    attention_mask: Tensor
    states_ixs: Tensor
    dones: Tensor

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def action_mask(self) -> Tensor:
        """(B, A) bool, True = real action."""
        return self.dones[:, :-1].bool()

    def rows(self: B, index: slice) -> B:
        """Some rows, without the columns of pads that all of them share."""
        part = _map(self, lambda _, value: value[index])
        if len(part) == 0:
            return part
        tokens, actions = _width(part.attention_mask), _width(part.action_mask)
        widths = {"rewards": actions, "actions_ixs": actions, "states_ixs": actions + 1, "dones": actions + 1}
        widths["decoder_input_ids"] = int(part.states_ixs.amax()) + 1
        return _map(part, lambda name, value: value[:, : widths.get(name, tokens)])

    def to(self: B, device: Any) -> B:
        """On another device."""
        return _map(self, lambda _, value: value.to(device))


@dataclass
class ILQLBatch(_Batch):
    """B samples of a causal model."""

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T)
    rewards: Tensor  # (B, A)
    states_ixs: Tensor  # (B, S)
    actions_ixs: Tensor  # (B, A)
    dones: Tensor  # (B, S)

    @property
    def actions(self) -> Tensor:
        """(B, A) ids of the actions."""
        return self.input_ids[:, 1:].gather(1, self.actions_ixs)


@dataclass
class ILQLSeq2SeqBatch(_Batch):
    """B samples of an encoder-decoder."""

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T)
    decoder_input_ids: Tensor  # (B, D)
    rewards: Tensor  # (B, A)
    states_ixs: Tensor  # (B, S)
    actions_ixs: Tensor  # (B, A)
    dones: Tensor  # (B, S)

    @property
    def actions(self) -> Tensor:
        """(B, A) ids of the actions."""
        return self.decoder_input_ids[:, 1:].gather(1, self.actions_ixs)


def _map(batch: B, change: Callable[[str, Tensor], Tensor]) -> B:
    names = [item.name for item in dataclasses.fields(batch)]  # type: ignore[arg-type]
    return type(batch)(**{name: change(name, getattr(batch, name)) for name in names})


def _width(mask: Tensor) -> int:
    """Columns up to the last real one of any row, at least 1."""
    return int(last_real_index(mask.bool()).amax()) + 1 if mask.shape[1] else 1


def ilql_collate_fn(elements: Sequence[ILQLElement]) -> ILQLBatch:
    """Elements as a batch, padded on the right with zeros."""
    return ILQLBatch(**_padded(elements, ILQLElement))


def ilql_seq2seq_collate_fn(elements: Sequence[ILQLSeq2SeqElement]) -> ILQLSeq2SeqBatch:
    """Elements as a batch, padded on the right with zeros."""
    return ILQLSeq2SeqBatch(**_padded(elements, ILQLSeq2SeqElement))


def _padded(elements: Sequence[Any], kind: type) -> dict[str, Tensor]:
    names = [item.name for item in dataclasses.fields(kind)]
    return {name: pad_sequence([getattr(element, name) for element in elements], True) for name in names}


def flatten_dataclass(cls: type) -> Callable[[Any], list[Any]]:
    """A function from an instance of `cls` to the list of its fields."""
    names = [item.name for item in dataclasses.fields(cls)]
    return lambda record: [getattr(record, name) for name in names]


def unflatten_dataclass(cls: type) -> Callable[[Sequence[Any]], Any]:
    """A function from a list of fields to an instance of `cls`."""
    return lambda values: cls(*values)
