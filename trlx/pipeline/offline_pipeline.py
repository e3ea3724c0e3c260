"""Prompts as token ids, tokenised once.

Left out: dialogues and the offline stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from trlx.functional.padding import left_pad
from trlx.pipeline import BasePipeline, register_datapipeline
from trlx.utils.errors import UserError


@dataclass
class PromptBatch:
    """B prompts, left-padded to the longest, P."""

    input_ids: Tensor  # (B, P)
    attention_mask: Tensor  # (B, P) long, 1 = real token
    texts: list[str]  # as given, before tokenising
    metadata: dict[str, list[Any]]  # what came with each prompt, by name


@register_datapipeline
class PromptPipeline(BasePipeline):
    """Prompts for online training and evaluation.

    Args:
        prompts: texts, or dicts with a "prompt" and further keys, which are handed to the reward function by name.
        max_prompt_length: longer prompts are cut on the tokenizer's `truncation_side`.
        tokenizer: of the policy.
        add_special_tokens: whether the tokenizer adds its own.

    Raises: UserError for no prompts, a dict without "prompt", dicts with different keys, or an empty prompt.
    """

    def __init__(
        self,
        prompts: Sequence[str] | Sequence[Mapping[str, Any]],
        max_prompt_length: int,
        tokenizer: PreTrainedTokenizerBase,
        add_special_tokens: bool = False,
    ):
        if len(prompts) == 0:
            raise UserError("there are no prompts to train or evaluate on")
        rows = [{"prompt": row} if isinstance(row, str) else dict(row) for row in prompts]
        self.tokenizer = tokenizer
        self.metadata_names = sorted(set(rows[0]) - {"prompt"})
        for index, row in enumerate(rows):
            if "prompt" not in row or sorted(set(row) - {"prompt"}) != self.metadata_names:
                raise UserError(f"prompt {index} must have the keys prompt{self._spelled()}, not {sorted(row)}")
        self.rows = rows
        encoded = tokenizer(
            [row["prompt"] for row in rows],
            truncation=True,
            max_length=max_prompt_length,
            add_special_tokens=add_special_tokens,
        )["input_ids"]
        self.token_ids: list[list[int]] = [list(ids) for ids in encoded]
        for index, ids in enumerate(self.token_ids):
            if not ids:
                raise UserError(f"prompt {index} is empty: give it at least one token, e.g. the tokenizer's bos_token")

    def _spelled(self) -> str:
        return "".join(f", {name}" for name in self.metadata_names)

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int]) -> PromptBatch:
        """The prompts at `indices`, collated."""
        ids, mask = left_pad([self.token_ids[i] for i in indices], self.tokenizer.pad_token_id)
        return PromptBatch(
            input_ids=ids,
            attention_mask=mask,
            texts=[self.rows[i]["prompt"] for i in indices],
            metadata={name: [self.rows[i][name] for i in indices] for name in self.metadata_names},
        )

    def create_loader(self, batch_size: int, shuffle: bool = False, drop_last: bool = False) -> DataLoader:
        """A loader of `PromptBatch`."""
        return DataLoader(self, batch_size, shuffle=shuffle, drop_last=drop_last, collate_fn=self.batch)
