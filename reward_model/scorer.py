"""Scores of texts by a reward model: batched, sorted by length, each distinct text once.

The score is that of the stock class at the last real token (EOS when the response ended), minus the model's
`reward_offset`; a classifier's is the log-odds of one of its labels. Left out: rewards relative to a reference, which
the caller subtracts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reward_model.encoding import CutPrompt, encode, prompt_ids, right_pad, token_ids
from reward_model.labels import label_index, log_odds, text_ids
from reward_model.model import OFFSET_FIELD, load_reward_model
from trlx.utils.pretrained import require_positions


class RewardScorer:
    """Scores prompts with responses.

    Args:
        model: from `load_reward_model`, in eval mode, on its device.
        tokenizer: its tokenizer.
        max_length: prompt + response + EOS in tokens; what is longer is cut in the prompt.
        batch_size: texts per forward pass.
        cut_prompt: how a prompt is shortened, e.g. a task's `TextForm.cut`; see `reward_model.encoding`.
        label: of a classifier, the one that is the reward; None for what its config says. It reads prompt and response
            as one text, whether that ended or not.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_length: int,
        batch_size: int,
        cut_prompt: CutPrompt | None = None,
        label: str | None = None,
    ):
        require_positions(model.config, max_length, "max_length")
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.batch_size = batch_size
        self.cut_prompt = cut_prompt
        self.offset = float(getattr(model.config, OFFSET_FIELD, 0.0))
        self.label = label_index(model.config, label, model.config.name_or_path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        max_length: int = 550,
        batch_size: int = 16,
        cut_prompt: CutPrompt | None = None,
        label: str | None = None,
    ) -> RewardScorer:
        """A scorer of the reward model in a folder or hub id. Raises: UserError as `load_reward_model`."""
        model, tokenizer = load_reward_model(path, dtype, device, label)
        return cls(model, tokenizer, max_length, batch_size, cut_prompt, label)

    def score(
        self, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool] | None = None
    ) -> list[float]:
        """One score per response, in the order given.

        Args:
            prompts: texts ending in `TL;DR:`.
            responses: what follows, as generated (leading space included, without EOS).
            ended: True = the response ended by itself and is scored at its EOS; False = it was cut, gets no EOS and is
                scored at its last real token. None: all ended.

        Raises: ValueError when the lengths differ.
        """
        ended = [True] * len(responses) if ended is None else ended
        if not len(prompts) == len(responses) == len(ended):
            raise ValueError(
                f"{len(prompts)} prompts, {len(responses)} responses, {len(ended)} ends: give as many of each"
            )
        wanted = list(zip(prompts, responses, map(bool, ended), strict=True))
        distinct = list(dict.fromkeys(wanted))
        scores = dict(zip(distinct, self._score_ids([self._encode(*key) for key in distinct]), strict=True))
        return [scores[key] for key in wanted]

    def _encode(self, prompt: str, response: str, ended: bool) -> list[int]:
        if self.label is not None:
            return self._whole_text(prompt, response)
        return encode(self.tokenizer, prompt, response, ended, self.max_length, self.cut_prompt)

    def _whole_text(self, prompt: str, response: str) -> list[int]:
        """Both as one text, as a classifier reads it; what is too much is taken from the prompt."""
        ids = text_ids(self.tokenizer, prompt + response)
        over = len(ids) - self.max_length
        if over > 0 and prompt:
            room = len(token_ids(self.tokenizer, prompt)) - over
            kept = prompt_ids(self.tokenizer, prompt, max(room, 0), self.cut_prompt)
            prompt = str(self.tokenizer.decode(kept))
        return text_ids(self.tokenizer, prompt + response, self.max_length) if over > 0 else ids

    def _values(self, logits: Tensor) -> Tensor:
        """Scores (B,) from logits (B, labels)."""
        return logits[:, 0] if self.label is None else log_odds(logits, self.label)

    @torch.inference_mode()
    def _score_ids(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Score of each row of token ids, longest rows first so that memory trouble shows at once."""
        self.model.eval()
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            ids, mask = right_pad([rows[index] for index in batch], self.model.config.pad_token_id)
            device = self.model.device
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            for index, value in zip(batch, self._values(logits.float()).tolist(), strict=True):
                scores[index] = value - self.offset
        return scores
