"""Generation through the model's own `generate`, with lengths and ends made explicit.

One function on token ids (`generate`), one on texts (`generate_texts`). Left out: stop sequences, and sweeps over
several settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import response_mask
from trlx.functional.padding import left_pad
from trlx.utils.errors import UserError, nearest


@dataclass
class Generated:
    """What a model wrote after B left-padded prompts, R the longest response."""

    response: Tensor  # (B, R) token ids, right-padded with the pad id
    response_mask: Tensor  # (B, R) bool, True = real response token, EOS included
    ended: Tensor  # (B,) bool, True = the response ends with EOS, False = cut at the length limit
    logprobs: Tensor | None = None  # (B, R) nats, as seen while sampling (logits / temperature); only on request


@dataclass
class GeneratedText:
    """One response as text, without EOS; the leading space is kept as the model produced it."""

    text: str
    ended: bool
    tokens: int  # real response tokens, EOS included


class _SampledLogprobs(LogitsProcessor):
    """Notes the log-probability of each token that was sampled; changes no logits.

    Custom processors run before temperature and top-k / top-p, so the logits seen here are the model's own. Only the
    last step's logits are held.
    """

    def __init__(self, temperature: float):
        self.temperature = temperature
        self.columns: list[Tensor] = []
        self.pending: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._close(input_ids[:, -1])
        self.pending = scores.clone()
        return scores

    def _close(self, tokens: Tensor) -> None:
        if self.pending is not None:
            self.columns.append(logprobs_of_tokens(self.pending.unsqueeze(1), tokens.unsqueeze(1), self.temperature))
            self.pending = None

    def finish(self, response: Tensor) -> Tensor:
        """(B, R) log-probabilities of `response`, once `generate` has returned it."""
        width = response.shape[1]
        if len(self.columns) < width:
            self._close(response[:, len(self.columns)])
        return torch.cat(self.columns[:width], dim=1)  # generate may look one step past what it returns


def check_gen_kwargs(gen_kwargs: Mapping[str, Any]) -> None:
    """Refuse names that transformers' GenerationConfig does not know; warn of cuts that bias PPO's log-probabilities.

    Raises: UserError naming the key and the nearest known one.
    """
    known = set(GenerationConfig().to_dict())
    for name in gen_kwargs:
        if name not in known:
            raise UserError(f"unknown generation option 'gen_kwargs.{name}'{nearest(name, known)}")
        if isinstance(gen_kwargs[name], (list, tuple)):
            raise UserError(f"'gen_kwargs.{name}' is a list: a sweep over several values is not available yet")
    if gen_kwargs.get("do_sample") and (gen_kwargs.get("top_k") or gen_kwargs.get("top_p", 1.0) < 1.0):
        warnings.warn(
            "top_k / top_p cut the distribution that is sampled; PPO's log-probabilities are of the uncut one",
            stacklevel=2,
        )


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    gen_kwargs: Mapping[str, Any],
    eos_token_id: int,
    pad_token_id: int,
    with_logprobs: bool = False,
) -> Generated:
    """Continue left-padded prompts.

    Args:
        model: an unwrapped causal language model.
        input_ids: (B, P) token ids, left-padded. attention_mask: (B, P), 1 = real.
        gen_kwargs: transformers' generation options, e.g. max_new_tokens, do_sample, temperature.
        eos_token_id: ends a response. pad_token_id: fills after it; may equal `eos_token_id`.
        with_logprobs: also return the log-probabilities seen while sampling.
    """
    settings = {"do_sample": False, "top_k": 0, "top_p": 1.0, **gen_kwargs}
    if not settings["do_sample"]:  # greedy decoding takes no sampling options
        settings = {k: v for k, v in settings.items() if k not in ("top_k", "top_p", "temperature")}
    config = GenerationConfig(**settings, eos_token_id=eos_token_id, pad_token_id=pad_token_id, use_cache=True)
    recorder = _SampledLogprobs(float(gen_kwargs.get("temperature") or 1.0)) if with_logprobs else None
    was_training = model.training
    model.eval()
    output: Tensor = model.generate(  # type: ignore[operator]
        input_ids=input_ids,
        attention_mask=attention_mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder] if recorder else []),
    )
    model.train(was_training)
    response = output[:, input_ids.shape[1] :]
    mask = response_mask(response, eos_token_id)
    ended = (response.eq(eos_token_id) & mask).any(dim=1)
    return Generated(
        response=torch.where(mask, response, torch.full_like(response, pad_token_id)),
        response_mask=mask,
        ended=ended,
        logprobs=recorder.finish(response) if recorder else None,
    )


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    gen_kwargs: Mapping[str, Any],
    batch_size: int,
    progress: Callable[[int], object] | None = None,
) -> list[GeneratedText]:
    """Continue prompt texts in batches of similar length; results in the order of `prompts`.

    Args:
        progress: called with the number of prompts just finished, e.g. a tqdm bar's `update`.

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
        made = generate(model, ids, mask, gen_kwargs, eos, pad)
        for row, i in enumerate(rows):
            results[i] = _to_text(tokenizer, made, row)
        if progress is not None:
            progress(len(rows))
    return [results[i] for i in range(len(prompts))]


def _to_text(tokenizer: PreTrainedTokenizerBase, made: Generated, row: int) -> GeneratedText:
    tokens, ended = int(made.response_mask[row].sum()), bool(made.ended[row])
    real = made.response[row, : tokens - 1 if ended else tokens]
    text = tokenizer.decode(real, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return GeneratedText(text=str(text), ended=ended, tokens=tokens)
