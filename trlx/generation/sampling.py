"""Sampling from a policy: one function on token ids (`generate`), one on texts (`generate_texts`).

Plain options on a decoder run in our own loop (`decoding`), everything else through transformers' `generate`
(`fallback`); `decoding.suits` decides. Left out: gathering the shards of ZeRO stage 3, which is the caller's: ranks
whose rows end at different times make different numbers of forward passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trlx.functional.padding import left_pad
from trlx.generation.decoding import decode, suits
from trlx.generation.fallback import decode_by_transformers
from trlx.generation.options import (
    check_gen_kwargs,
    read_options,
    refuse_sweep,
    split_sweep,
    sweep_points,
    warn_of_cuts,
)
from trlx.generation.records import Generated, GeneratedText
from trlx.generation.stopping import StopSequences
from trlx.utils.errors import UserError
from trlx.utils.peft_models import bare_model

__all__ = [
    "Generated",
    "GeneratedText",
    "StopSequences",
    "check_gen_kwargs",
    "generate",
    "generate_texts",
    "split_sweep",
    "sweep_points",
]


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    gen_kwargs: Mapping[str, Any],
    eos_token_id: int | None,
    pad_token_id: int,
    with_logprobs: bool = False,
    stops: StopSequences | None = None,
    logit_mask: Tensor | None = None,
    keep_output_of: nn.Module | None = None,
) -> Generated:
    """Continue left-padded prompts.

    Args:
        model: an unwrapped language model, with or without peft adapters.
        input_ids: (B, P) token ids, left-padded. attention_mask: (B, P), 1 = real.
        gen_kwargs: transformers' generation options, e.g. max_new_tokens, do_sample, temperature. What is not given
            has no effect: greedy, temperature 1, no cuts, whatever defaults the model was published with.
        eos_token_id: ends a response; None for none. pad_token_id: fills after it; may equal `eos_token_id`. Either
            in `gen_kwargs` goes before.
        with_logprobs: also return the log-probabilities seen while sampling: of softmax(logits / temperature), before
            top-k and top-p, after everything else that changes logits (`logit_mask`, min_new_tokens, penalties).
        stops: texts that end a response too.
        logit_mask: (V, V) bool, True = this next token (column) is forbidden after this one (row), as in trlX; a
            smaller mask leaves the ids beyond it free.
        keep_output_of: a block of the model whose outputs are returned too, as `states`, where our own loop decodes.

    Raises: UserError for prompts without tokens, an option with an impossible value, or a list where one value is
    needed; RuntimeError when the logits are no distribution to sample from.
    """
    refuse_sweep(gen_kwargs)
    if input_ids.shape[1] == 0:
        raise UserError("prompts without tokens cannot be continued: give each at least a beginning-of-sequence token")
    if with_logprobs:
        warn_of_cuts(gen_kwargs, masked=logit_mask is not None)
    if logit_mask is not None:
        logit_mask = _whole_mask(logit_mask.to(input_ids.device), bare_model(model))
    with _evaluating(model):
        if suits(model, gen_kwargs):
            options = read_options(gen_kwargs, input_ids.shape[1], eos_token_id, pad_token_id, input_ids.device)
            return decode(model, input_ids, attention_mask, options, with_logprobs, stops, logit_mask, keep_output_of)
        return decode_by_transformers(
            model, input_ids, attention_mask, gen_kwargs, eos_token_id, pad_token_id, with_logprobs, stops, logit_mask
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _whole_mask(logit_mask: Tensor, model: PreTrainedModel) -> Tensor:
    vocabulary = model.get_output_embeddings().weight.shape[0]
    if logit_mask.dim() != 2 or max(logit_mask.shape) > vocabulary:
        raise UserError(
            f"logit_mask has shape {tuple(logit_mask.shape)}: it must be (V, V), V at most the model's {vocabulary}"
        )
    rows, columns = logit_mask.shape
    return nn.functional.pad(logit_mask.bool(), (0, vocabulary - columns, 0, vocabulary - rows))


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    gen_kwargs: Mapping[str, Any],
    batch_size: int,
    progress: Callable[[int], object] | None = None,
    stops: StopSequences | None = None,
) -> list[GeneratedText]:
    """Continue prompt texts in batches of similar length; results in the order of `prompts`.

    Args:
        progress: called with the number of prompts just finished, e.g. a tqdm bar's `update`.
        stops: texts that end a response too; what follows the first of them is cut off.

    Raises: UserError when the tokenizer has no end-of-sequence token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise UserError("the tokenizer has no end-of-sequence token, so no response could end: set tokenizer.eos_token")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]), reverse=True)
    results: dict[int, GeneratedText] = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = left_pad([encoded[i] for i in rows], pad, model.device)
        made = generate(model, ids, mask, gen_kwargs, eos, pad, stops=stops)
        for row, i in enumerate(rows):
            results[i] = _to_text(tokenizer, made, row, stops)
        if progress is not None:
            progress(len(rows))
    return [results[i] for i in range(len(prompts))]


def _to_text(
    tokenizer: PreTrainedTokenizerBase, made: Generated, row: int, stops: StopSequences | None
) -> GeneratedText:
    real = made.response[row][made.response_mask[row]]
    kept = real[:-1] if made.ended[row] and real[-1] == tokenizer.eos_token_id else real
    text = str(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return GeneratedText(text=stops.trim(text) if stops else text, ended=bool(made.ended[row]), tokens=len(real))
