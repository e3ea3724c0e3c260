"""Dialogues to be learned from, and batches of them whose labels are the outputs alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import BatchEncoding, PreTrainedTokenizerBase

from trlx.pipeline import BaseRolloutStore
from trlx.pipeline.dialogues import DialogMessage

IGNORED = -100  # a label that no loss looks at


class DialogBatch(BatchEncoding):
    """B dialogues, padded on the right to the longest, T: input_ids, attention_mask (1 = real) and labels, (B, T) long.

    Labels are aligned with the ids, -100 = not learned: a causal model's loss shifts them by one.
    """

    def rows(self, index: slice) -> DialogBatch:
        """Some rows, cut to their own longest."""
        width = int(self["attention_mask"][index].sum(dim=1).max())
        return type(self)({name: value[index, :width] for name, value in self.items()})


class PairBatch(DialogBatch):
    """B prompts, input_ids and attention_mask (B, P), and their outputs, labels (B, R), each padded on the right."""

    def rows(self, index: slice) -> PairBatch:
        part = super().rows(index)
        labels = self["labels"][index]
        width = max(int(labels.ne(IGNORED).sum(dim=1).max()), 1)
        part["labels"] = labels[:, :width].contiguous()  # T5 views them as one row
        return part  # type: ignore[return-value]


class DialogStore(BaseRolloutStore):
    """Dialogues for a causal model.

    Args:
        dialogs: from `tokenize_dialogue`. tokenizer: its pad token fills batches, on the right.

    Attributes:
        history: a dict a dialogue, of what `DialogBatch` has, (T,) each.
    """

    batch_class: ClassVar[type[DialogBatch]] = DialogBatch

    def __init__(self, dialogs: Iterable[Sequence[DialogMessage]], tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        self.tokenizer = tokenizer
        self.history = [self.row(dialog) for dialog in dialogs]

    def row(self, dialog: Sequence[DialogMessage]) -> dict[str, Tensor]:
        """One dialogue as an entry of `history`."""
        ids = _ids(dialog)
        is_output = [message.is_output for message in dialog for _ in message.tokens]
        labels = torch.where(torch.tensor(is_output, dtype=torch.bool), ids, torch.full_like(ids, IGNORED))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    def create_loader(self, batch_size: int, shuffle: bool = False, **options: Any) -> DataLoader:
        """A loader of `DialogBatch`.

        Args:
            options: further ones of torch's DataLoader, e.g. drop_last, sampler, or batch_sampler instead of all.
        """
        if "batch_sampler" not in options:
            options |= {"batch_size": batch_size, "shuffle": shuffle}
        return DataLoader(self, collate_fn=self.collate, **options)

    def collate(self, rows: Sequence[dict[str, Tensor]]) -> DialogBatch:
        """Entries of `history` as a batch, padded by length: the pad id may be a real token's too."""
        pad = self.tokenizer.pad_token_id
        fillers = {"input_ids": 0 if pad is None else pad, "attention_mask": 0, "labels": IGNORED}
        return self.batch_class(
            {name: pad_sequence([row[name] for row in rows], True, filler) for name, filler in fillers.items()}
        )


class Seq2SeqStore(DialogStore):
    """Prompts and outputs for an encoder-decoder.

    Args:
        dialogs: (prompt, output) messages, from `tokenize_pair`; an output may be missing.

    Attributes:
        history: a dict a pair, of what `PairBatch` has, (P,) and (R,).
    """

    batch_class = PairBatch

    def row(self, dialog: Sequence[DialogMessage]) -> dict[str, Tensor]:
        prompt, output = ([m for m in dialog if m.is_output == outputs] for outputs in (False, True))
        ids = _ids(prompt)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": _ids(output)}


def _ids(messages: Sequence[DialogMessage]) -> Tensor:
    return torch.tensor([token for message in messages for token in message.tokens], dtype=torch.long)
