"""Our own decoding loop for decoder-only models: one prompt pass, then a token a step for the rows still writing.

Three things make it faster than transformers' loop: the cache grows in place, a token is drawn without copies of the
(B, V) logits, and rows that have finished leave at once. Left out: beams and whatever else `suits` refuses.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel

from trlx.functional.masking import position_ids
from trlx.generation.cache import growing_cache, grows_in_place, place, rows_can_leave
from trlx.generation.choosing import choose
from trlx.generation.kept_states import KeptStates
from trlx.generation.options import DecodingOptions, is_plain
from trlx.generation.records import Generated
from trlx.generation.stopping import StopSequences
from trlx.utils.peft_models import bare_model, learns_a_prompt

# Prompts are read this many tokens at a time on a CPU, so that a layer's intermediate results stay in its caches.
SLICE_TOKENS = 2048


def suits(model: PreTrainedModel, gen_kwargs: Mapping[str, Any]) -> bool:
    """Whether our own loop decodes: a decoder that reads its inputs the common way, a cache that rows can leave,
    plain options. Everything else goes through transformers' `generate`."""
    base = bare_model(model)
    model_class: Any = type(base)
    return (
        is_plain(gen_kwargs)
        and not base.config.is_encoder_decoder
        and model_class.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
        and "past_key_values" in inspect.signature(base.forward).parameters
        and not learns_a_prompt(model)
        and rows_can_leave(growing_cache(base, 1))
    )


def decode(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    options: DecodingOptions,
    with_logprobs: bool = False,
    stops: StopSequences | None = None,
    logit_mask: Tensor | None = None,
    keep_output_of: nn.Module | None = None,
) -> Generated:
    """Continue left-padded prompts; arguments and result as in `generate`. For a model that `suits`, in eval mode."""
    batch_size = len(input_ids)
    # One draw a row and step, taken in advance: what a row says does not depend on when the others end.
    draws = torch.rand(batch_size, options.limit, dtype=torch.float64, device=input_ids.device)
    record = _Record(batch_size, options, input_ids.device)
    kept = KeptStates(keep_output_of) if keep_output_of is not None else None
    active = _ActiveRows(model, input_ids, attention_mask, options.limit, kept)
    eos = torch.tensor(options.eos_token_ids, dtype=torch.long, device=input_ids.device)
    watch = stops.watch(batch_size) if stops else None
    ids = torch.cat([input_ids, record.response], dim=1)  # what processors and the mask look back at
    logits = active.read_prompts()
    for step in range(options.limit):
        rows, seen = active.rows, input_ids.shape[1] + step
        if logit_mask is not None:
            logits = logits.masked_fill(logit_mask[ids[rows, seen - 1]], float("-inf"))
        if options.processors:
            logits = options.processors(ids[rows, :seen], logits)  # type: ignore[arg-type]
        step_draws = draws[rows, step] if options.sample else None
        tokens, logprobs = choose(logits, step_draws, options.temperature, options.top_k, options.top_p, with_logprobs)
        ids[rows, seen] = tokens
        ended = torch.isin(tokens, eos)
        if watch is not None:
            ended |= torch.tensor(watch.completed(rows.tolist(), tokens.tolist()), device=ended.device)
        record.add(rows, step, tokens, logprobs, ended)
        if step + 1 == options.limit or not active.keep(~ended, tokens):
            break
        logits = active.next_logits()
    made = record.finish(with_logprobs)
    if kept is not None:
        made.states = kept.finish(batch_size, input_ids.shape[1] + made.response.shape[1])
    return made


class _Record:
    """The responses as they grow, in the order of the prompts."""

    def __init__(self, batch_size: int, options: DecodingOptions, device: torch.device):
        shape = (batch_size, options.limit)
        self.response = torch.full(shape, options.pad_token_id, device=device)
        self.logprobs = torch.zeros(shape, device=device)
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.ended = torch.zeros(batch_size, dtype=torch.bool, device=device)

    def add(self, rows: Tensor, step: int, tokens: Tensor, logprobs: Tensor | None, ended: Tensor) -> None:
        """Note one token for each of `rows` (b,), and which of them end with it."""
        self.response[rows, step] = tokens
        self.lengths[rows] = step + 1
        if logprobs is not None:
            self.logprobs[rows, step] = logprobs
        self.ended[rows] = ended

    def finish(self, with_logprobs: bool) -> Generated:
        width = int(self.lengths.max())
        return Generated(
            response=self.response[:, :width],
            response_mask=torch.arange(width, device=self.lengths.device) < self.lengths.unsqueeze(1),
            ended=self.ended,
            logprobs=self.logprobs[:, :width] if with_logprobs else None,
        )


class _ActiveRows:
    """The rows still being written: their cache, mask, positions and last tokens, with `rows` naming each one's prompt.

    A row that leaves is replaced by the last one, so that little is moved.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        attention_mask: Tensor,
        limit: int,
        kept: KeptStates | None = None,
    ):
        self.model, self.input_ids, self.kept = model, input_ids, kept
        base = bare_model(model)
        arguments = inspect.signature(base.forward).parameters
        self.takes_positions = "position_ids" in arguments
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        batch_size, self.length = input_ids.shape
        self.mask = torch.cat([attention_mask, attention_mask.new_ones(batch_size, limit)], dim=1)
        self.rows = torch.arange(batch_size, device=input_ids.device)
        self.tokens = input_ids[:, -1]
        self.positions = attention_mask.long().sum(dim=1)  # of the next token
        self.cache = growing_cache(base, self.length + limit)

    def read_prompts(self) -> Tensor:
        """(B, V) float32 logits of the first token."""
        ids, mask = self.input_ids, self.mask[:, : self.length]
        rows_at_once = max(1, SLICE_TOKENS // self.length)
        if ids.device.type != "cpu" or len(ids) <= rows_at_once or not grows_in_place(self.cache):
            return self._forward(ids, mask, position_ids(mask), self.cache, self.rows)
        return self._read_in_slices(rows_at_once)

    def _read_in_slices(self, rows_at_once: int) -> Tensor:
        """Prompts of similar length together, without the padding none of them needs."""
        mask = self.mask[:, : self.length]
        starts = mask.ne(0).long().argmax(dim=1)  # first real token; 0 for a row of pads
        logits: list[Tensor] = []
        order = starts.argsort(stable=True)
        for rows in order.split(rows_at_once):
            start = int(starts[rows].min())
            part = DynamicCache(config=bare_model(self.model).config)
            part_mask = mask[rows, start:]
            logits.append(self._forward(self.input_ids[rows, start:], part_mask, position_ids(part_mask), part, rows))
            place(self.cache, rows, part, len(mask), self.length)
        return torch.cat(logits)[order.argsort()]

    def keep(self, going_on: Tensor, tokens: Tensor) -> bool:
        """Take in the tokens of this step and let the rows go that are not `going_on` (b,); False when all have."""
        self.tokens = tokens
        count = int(going_on.sum())
        if 0 < count < len(going_on):
            self._select(_fill_holes(going_on, count))
        return count > 0

    def _select(self, order: Tensor) -> None:
        self.cache.batch_select_indices(order)
        self.rows, self.tokens, self.mask = self.rows[order], self.tokens[order], self.mask[order]
        self.positions = self.positions[order]

    def next_logits(self) -> Tensor:
        """(b, V) float32 logits after the tokens last taken in."""
        self.length += 1
        positions = self.positions.unsqueeze(1)
        self.positions = self.positions + 1
        return self._forward(self.tokens.unsqueeze(1), self.mask[:, : self.length], positions, self.cache, self.rows)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, rows: Tensor) -> Tensor:
        """(b, V) float32 logits after the last of `ids` (b, n), which belong to the prompts `rows` (b,)."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, **self.last_only}
        if self.takes_positions:
            inputs["position_ids"] = positions
        with self.kept.watching(rows, self.length) if self.kept is not None else contextlib.nullcontext():
            logits: Tensor = self.model(**inputs, use_cache=True).logits
        return logits[:, -1].float()


def _fill_holes(going_on: Tensor, count: int) -> Tensor:
    """(count,) indices of the True entries of `going_on`; those below `count` keep their place, others fill holes."""
    order = torch.arange(count, device=going_on.device)
    order[~going_on[:count]] = going_on[count:].nonzero().squeeze(1) + count
    return order
