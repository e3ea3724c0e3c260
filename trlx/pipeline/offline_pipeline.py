"""Prompts as token ids, tokenised once; and, under the names that scripts import, the stores of the offline methods."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from trlx.functional.padding import left_pad
from trlx.pipeline import BasePipeline, register_datapipeline
from trlx.pipeline.dialogue_store import DialogStore
from trlx.pipeline.dialogues import DialogMessage, tokenize_dialogue
from trlx.pipeline.ilql_storage import ILQLRolloutStorage, ILQLSeq2SeqRolloutStorage
from trlx.pipeline.ppo_pipeline import PPORolloutStorage
from trlx.utils.errors import UserError

__all__ = [
    "DialogMessage",
    "DialogStore",
    "ILQLRolloutStorage",
    "ILQLSeq2SeqRolloutStorage",
    "PPORolloutStorage",
    "PromptBatch",
    "PromptPipeline",
    "tokenize_dialogue",
]

# Names that metadata cannot have: the reward function gets them besides, or a batch has them itself.
_TAKEN = ("samples", "prompts", "outputs", "tokenizer", "input_ids", "attention_mask")


class PromptBatch(Mapping[str, Any]):
    """B prompts, left-padded to the longest, P.

    Read by attribute, or as a mapping of input_ids, attention_mask and each name of the metadata.

    Attributes:
        input_ids: (B, P) long. attention_mask: (B, P) long, 1 = real token.
        texts: B prompts as given, before tokenising.
        metadata: what came with each prompt, by name; B values each.
    """

    def __init__(self, input_ids: Tensor, attention_mask: Tensor, texts: list[str], metadata: dict[str, list[Any]]):
        self.input_ids, self.attention_mask = input_ids, attention_mask
        self.texts, self.metadata = texts, metadata

    def _entries(self) -> dict[str, Any]:
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **self.metadata}

    def __getitem__(self, name: str) -> Any:
        return self._entries()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        """The number of prompts, B."""
        return len(self.texts)

    def rows(self, index: slice) -> PromptBatch:
        """Some of the prompts, at the same padded width."""
        metadata = {name: values[index] for name, values in self.metadata.items()}
        return PromptBatch(self.input_ids[index], self.attention_mask[index], self.texts[index], metadata)

    def to(self, device: torch.device | str, **options: Any) -> PromptBatch:
        """With its tensors on another device."""
        ids, mask = self.input_ids.to(device, **options), self.attention_mask.to(device, **options)
        return PromptBatch(ids, mask, self.texts, self.metadata)


@register_datapipeline
class PromptPipeline(BasePipeline):
    """Prompts for online training and evaluation.

    Args:
        prompts: texts, or dicts with a "prompt" and further keys, which are handed to the reward function by name.
        max_prompt_length: longer prompts are cut on the tokenizer's `truncation_side`, with one warning.
        tokenizer: of the policy.
        add_special_tokens: whether the tokenizer adds its own.

    Raises: UserError for no prompts, a prompt that is not text, a dict without "prompt", dicts with different keys or a
        key that the reward function needs itself, an empty prompt, or no room for prompts.
    """

    def __init__(
        self,
        prompts: Sequence[str] | Sequence[Mapping[str, Any]],
        max_prompt_length: int,
        tokenizer: PreTrainedTokenizerBase,
        add_special_tokens: bool = False,
    ):
        super().__init__()
        if max_prompt_length < 1:
            raise UserError(f"max_prompt_length is {max_prompt_length}: prompts need room for at least one token")
        self.rows, self.metadata_names = _read(prompts)
        self.tokenizer = tokenizer
        texts = [row["prompt"] for row in self.rows]
        encoded: Any = tokenizer(texts, truncation=False, add_special_tokens=add_special_tokens)
        whole = [len(ids) for ids in encoded["input_ids"]]
        for index, length in enumerate(whole):
            if not length:
                raise UserError(f"prompt {index} is empty: give it at least one token, e.g. the tokenizer's bos_token")
        too_long = sum(length > max_prompt_length for length in whole)
        if too_long:
            warnings.warn(
                f"{too_long} of {len(whole)} prompts have more than {max_prompt_length} tokens (the longest "
                f"{max(whole)}) and are cut on the {tokenizer.truncation_side}",
                stacklevel=2,
            )
            encoded = tokenizer(
                texts, truncation=True, max_length=max_prompt_length, add_special_tokens=add_special_tokens
            )
        self.token_ids: list[list[int]] = [list(ids) for ids in encoded["input_ids"]]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One prompt: its input_ids, attention_mask and metadata."""
        ids = self.token_ids[index]
        metadata = {name: self.rows[index][name] for name in self.metadata_names}
        return {"input_ids": ids, "attention_mask": [1] * len(ids), **metadata}

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """All prompts, as `pipeline[i]` gives them."""
        return [self[index] for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> PromptBatch:
        """The prompts at `indices`, collated."""
        pad = self.tokenizer.pad_token_id
        ids, mask = left_pad([self.token_ids[i] for i in indices], 0 if pad is None else pad)
        return PromptBatch(
            input_ids=ids,
            attention_mask=mask,
            texts=[self.rows[i]["prompt"] for i in indices],
            metadata={name: [self.rows[i][name] for i in indices] for name in self.metadata_names},
        )

    def create_loader(
        self, batch_size: int, shuffle: bool = False, sampler: Any = None, drop_last: bool = False
    ) -> DataLoader:
        """A loader of `PromptBatch`.

        Args:
            sampler: of indices into the prompts, instead of `shuffle`.
        """
        # The loader draws indices, which `batch` turns into prompts.
        indices: Any = range(len(self))
        return DataLoader(
            indices, batch_size, shuffle=shuffle, sampler=sampler, drop_last=drop_last, collate_fn=self.batch
        )


def _read(prompts: Sequence[str] | Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """(a dict for each prompt, the names of the metadata); the caller's dicts stay as they are."""
    if isinstance(prompts, (str, Mapping)) or len(prompts) == 0:
        raise UserError("there are no prompts to train or evaluate on: give a list of texts, or of dicts with 'prompt'")
    rows = [dict(row) if isinstance(row, Mapping) else {"prompt": row} for row in prompts]
    names = sorted(set(rows[0]) - {"prompt"})
    spelled = "".join(f", {name}" for name in names)
    for index, row in enumerate(rows):
        if "prompt" not in row or sorted(set(row) - {"prompt"}) != names:
            raise UserError(f"prompt {index} must have the keys prompt{spelled}, not {sorted(row)}")
        if not isinstance(row["prompt"], str):
            raise UserError(f"prompt {index} must be text, not {type(row['prompt']).__name__}")
    for name in names:
        if name in _TAKEN:
            raise UserError(f"prompts cannot have a key '{name}', which the reward function is given anyway: rename it")
    return rows, names
