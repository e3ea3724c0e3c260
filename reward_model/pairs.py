"""Preference pairs as the reward model trains on them: both sides of every pair in one batch, one forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from reward_model import encoding
from reward_model.encoding import CutPrompt, encode_pair_batch, right_pad
from trlx.pipeline.batch_tokenizer import BatchTokenizer, in_threads
from trlx.pipeline.token_cache import all_facts, cached, code_hash
from trlx.pipeline.token_store import Layout, TokenBlock, TokenStore, TokenWriter
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError

GOLD = "gold_prefers_chosen"
SIDES = ("chosen", "rejected")


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


class PairItems(Sequence[dict[str, Any]]):
    """A store of pairs as the collator reads them: the prompt, which lies on disk once, before both sides.

    Each item is `chosen_ids`, `rejected_ids` and `gold`: 1.0 when the noise-free label prefers the chosen side, 0.0
    when the rejected, NaN when it is not known.
    """

    def __init__(self, store: TokenStore):
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        item = self.store[index]
        sides = {f"{side}_ids": item["prompt"] + item[side] for side in SIDES}
        return {**sides, "gold": item["gold"]}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the longer side of each pair, (N,)."""
        lengths = self.store.part_lengths
        return lengths["prompt"] + np.maximum(*(lengths[side] for side in SIDES))


def encode_pairs(
    pairs: Iterable[PairText],
    tokenizer: Any,
    max_length: int,
    cut_prompt: CutPrompt | None = None,
    lead: str = " ",
    *,
    cache: Path | None = None,
    made_from: Mapping[str, Any] | None = None,
    notes: Callable[[], Mapping[str, Any]] | None = None,
) -> tuple[PairItems, Any]:
    """Token ids of every pair, laid end to end in a file that is mapped into memory.

    Args:
        pairs: with clean summaries; not read when the cache has them.
        max_length: prompt + summary + EOS in tokens; both sides keep the same prompt.
        cut_prompt: how an over-long prompt is shortened; see `reward_model.encoding`.
        lead: stands between prompt and summary.
        cache: folder of encoded data; None encodes anew.
        made_from: what the pairs and `cut_prompt` depend on, as JSON values; None is not cached.
        notes: asked once the pairs are read, for what shall be known of them (`items.store.notes`) when the cache has
            them.

    Returns: (the items, tokens of the longer side of each).
    """
    batched = BatchTokenizer(tokenizer)
    encode = functools.partial(_encode, tokenizer=batched, max_length=max_length, cut_prompt=cut_prompt, lead=lead)

    def fill(writer: TokenWriter) -> None:
        for block in in_threads(encode, tqdm(pairs, desc="encoding", leave=False, delay=1, disable=not is_main_rank())):
            writer.append(block)
        writer.notes.update(notes() if notes else {})

    layout = Layout(("prompt", *SIDES), batched.vocabulary, ("gold",))
    facts = {"code": code_hash([Path(__file__), Path(encoding.__file__)]), "max_length": max_length, "lead": lead}
    items = PairItems(cached(cache, all_facts(batched, facts, made_from), layout, fill))
    return items, items.lengths


def _encode(
    pairs: list[PairText], tokenizer: BatchTokenizer, max_length: int, cut_prompt: CutPrompt | None, lead: str
) -> TokenBlock:
    prompts = [pair.prompt for pair in pairs]
    chosen, rejected = [lead + pair.chosen for pair in pairs], [lead + pair.rejected for pair in pairs]
    items = encode_pair_batch(tokenizer, prompts, chosen, rejected, max_length, cut_prompt)
    return TokenBlock.of(items, [[_gold(pair)] for pair in pairs])


def _gold(pair: PairText) -> float:
    known = noise_free_label(pair)
    return float("nan") if known is None else float(known)


def noise_free_label(pair: PairText) -> bool | None:
    """Whether the chosen side is truly the better one; None where the data do not say.

    Raises: UserError for a value that is neither.
    """
    known = pair.extra.get(GOLD)
    if known is None or known in (True, False):
        return None if known is None else bool(known)
    raise UserError(f"column '{GOLD}' holds {known!r}: make it true or false, or leave it out")


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
