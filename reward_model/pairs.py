"""Preference pairs as the reward model trains on them: both sides of every pair in one batch, one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from reward_model.encoding import CutPrompt, encode_pair, right_pad
from trlx.utils.distributed import is_main_rank

GOLD = "gold_prefers_chosen"


class PairText(Protocol):
    """What is read of a pair."""

    @property
    def prompt(self) -> str: ...
    @property
    def chosen(self) -> str: ...
    @property
    def rejected(self) -> str: ...
    @property
    def extra(self) -> Mapping[str, Any]: ...


def encode_pairs(
    pairs: Sequence[PairText], tokenizer: Any, max_length: int, cut_prompt: CutPrompt | None = None, lead: str = " "
) -> tuple[list[dict[str, Any]], list[int]]:
    """Token ids of every pair.

    Args:
        pairs: with clean summaries.
        max_length: prompt + summary + EOS in tokens; both sides keep the same prompt.
        cut_prompt: how an over-long prompt is shortened; see `reward_model.encoding`.
        lead: stands between prompt and summary.

    Returns: (samples of `chosen_ids`, `rejected_ids` and `gold`, length of the longer side of each). `gold` is 1.0 when
        the noise-free label prefers the chosen side, 0.0 when the rejected, NaN when it is not known.
    """
    items, lengths = [], []
    for pair in tqdm(pairs, desc="encoding", leave=False, disable=not is_main_rank()):
        chosen, rejected = encode_pair(
            tokenizer, pair.prompt, lead + pair.chosen, lead + pair.rejected, max_length, cut_prompt
        )
        known = pair.extra.get(GOLD)
        gold = float("nan") if known is None else float(known)
        items.append({"chosen_ids": chosen, "rejected_ids": rejected, "gold": gold})
        lengths.append(max(len(chosen), len(rejected)))
    return items, lengths


@dataclass(frozen=True)
class PairCollator:
    """Batches B pairs as 2B right-padded rows: all chosen sides, then all rejected ones in the same order."""

    pad_token_id: int

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns `input_ids` and `attention_mask` (1 = real), (2B, T) long; `gold` (B,) and `rows` (B,)."""
        sides = [s["chosen_ids"] for s in samples] + [s["rejected_ids"] for s in samples]
        ids, mask = right_pad(sides, self.pad_token_id)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "gold": torch.tensor([sample["gold"] for sample in samples]),
            "rows": torch.tensor([sample["row"] for sample in samples]),
        }
