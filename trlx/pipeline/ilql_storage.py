"""Where the samples that ILQL trains on wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from trlx.data.ilql_types import (
    ILQLElement,
    ILQLSeq2SeqElement,
    ilql_collate_fn,
    ilql_seq2seq_collate_fn,
)
from trlx.pipeline import BaseRolloutStore


class _Storage(BaseRolloutStore):
    """All samples, the same on every rank."""

    def __init__(self, history: list[Any], collate: Callable[[Sequence[Any]], Any]):
        super().__init__()
        self.history, self.collate = history, collate

    def create_loader(
        self, batch_size: int, shuffle: bool = True, batches: Sequence[Sequence[int]] | None = None
    ) -> DataLoader:
        """A loader of collated batches.

        Args:
            batches: the samples of each batch, by index, instead of `batch_size` and `shuffle`. They are sorted by
                length, so that microbatches waste less on pads; the order within a batch changes no gradient.
        """
        if batches is None:
            return DataLoader(self, batch_size, shuffle=shuffle, collate_fn=self.collate)
        return DataLoader(self, batch_sampler=[sorted(b, key=self._length) for b in batches], collate_fn=self.collate)

    def _length(self, index: int) -> int:
        return len(self[index].dones)


class ILQLRolloutStorage(_Storage):
    """Samples of a causal model; the arguments are lists with one tensor a sample, see `ILQLElement`."""

    def __init__(
        self,
        input_ids: Sequence[Tensor],
        attention_mask: Sequence[Tensor],
        rewards: Sequence[Tensor],
        states_ixs: Sequence[Tensor],
        actions_ixs: Sequence[Tensor],
        dones: Sequence[Tensor],
    ):
        self.input_ids, self.attention_mask, self.rewards = input_ids, attention_mask, rewards
        self.states_ixs, self.actions_ixs, self.dones = states_ixs, actions_ixs, dones
        columns = zip(input_ids, attention_mask, rewards, states_ixs, actions_ixs, dones, strict=True)
        super().__init__([ILQLElement(*row) for row in columns], ilql_collate_fn)


class ILQLSeq2SeqRolloutStorage(_Storage):
    """Samples of an encoder-decoder; the arguments are lists with one tensor a sample, see `ILQLSeq2SeqElement`."""

    def __init__(
        self,
        input_ids: Sequence[Tensor],
        attention_mask: Sequence[Tensor],
        decoder_input_ids: Sequence[Tensor],
        rewards: Sequence[Tensor],
        states_ixs: Sequence[Tensor],
        actions_ixs: Sequence[Tensor],
        dones: Sequence[Tensor],
    ):
        self.input_ids, self.attention_mask, self.decoder_input_ids = input_ids, attention_mask, decoder_input_ids
        self.rewards, self.states_ixs, self.actions_ixs, self.dones = rewards, states_ixs, actions_ixs, dones
        columns = zip(
            input_ids, attention_mask, decoder_input_ids, rewards, states_ixs, actions_ixs, dones, strict=True
        )
        super().__init__([ILQLSeq2SeqElement(*row) for row in columns], ilql_seq2seq_collate_fn)
