"""Generation through transformers' own `generate`: encoder-decoder models, beams, models with caches of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)

from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import response_mask
from trlx.generation.options import end_token_ids
from trlx.generation.records import Generated
from trlx.generation.stopping import StopSequences
from trlx.utils.errors import UserError
from trlx.utils.peft_models import learns_a_prompt


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


class _ForbiddenNext(LogitsProcessor):
    """Forbids tokens by the one before them."""

    def __init__(self, logit_mask: Tensor):
        self.logit_mask = logit_mask

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill(self.logit_mask[input_ids[:, -1]], float("-inf"))


def decode_by_transformers(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    gen_kwargs: Mapping[str, Any],
    eos_token_id: int | None,
    pad_token_id: int,
    with_logprobs: bool = False,
    stops: StopSequences | None = None,
    logit_mask: Tensor | None = None,
) -> Generated:
    """Arguments and result as in `generate`.

    Raises: UserError when log-probabilities are asked for of a beam search.
    """
    config = _generation_config(gen_kwargs, eos_token_id, pad_token_id)
    if with_logprobs and (config.num_beams or 1) > 1:
        raise UserError("'gen_kwargs.num_beams' above 1 gives no log-probabilities of sampling: use 1 in rollouts")
    recorder = _SampledLogprobs(float(gen_kwargs.get("temperature") or 1.0)) if with_logprobs else None
    masking = [_ForbiddenNext(logit_mask)] if logit_mask is not None else []
    output: Tensor = model.generate(  # type: ignore[operator]
        input_ids=input_ids,
        attention_mask=attention_mask,
        generation_config=config,
        logits_processor=LogitsProcessorList([*masking, *([recorder] if recorder else [])]),
        **_cache(model, config),
    )
    given = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    response = output[:, given:]
    ends = torch.isin(response, torch.tensor(end_token_ids(config.eos_token_id), device=response.device))
    if stops:
        ends |= stop_ends(response, stops)
    mask = response_mask(ends.long(), eos_token_id=1)
    logprobs = recorder.finish(response) if recorder else None
    width = max(1, int(mask.sum(dim=1).max()))
    return Generated(
        response=torch.where(mask, response, torch.full_like(response, config.pad_token_id))[:, :width],
        response_mask=mask[:, :width],
        ended=(ends & mask).any(dim=1),
        logprobs=logprobs[:, :width] if logprobs is not None else None,
    )


def _generation_config(gen_kwargs: Mapping[str, Any], eos_token_id: int | None, pad_token_id: int) -> GenerationConfig:
    """Neutral where nothing is said, or transformers would fill in the temperature the model was published with."""
    settings: dict[str, Any] = {"do_sample": False, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "use_cache": True}
    settings |= {"eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
    settings |= {name: value for name, value in gen_kwargs.items() if value is not None}
    settings["return_dict_in_generate"] = False
    if not settings["do_sample"]:  # greedy decoding takes no sampling options
        settings = {k: v for k, v in settings.items() if k not in ("top_k", "top_p", "temperature")}
    return GenerationConfig(**settings)


def _cache(model: PreTrainedModel, config: GenerationConfig) -> dict[str, Any]:
    """A cache that grows layer by layer: transformers sizes an encoder-decoder's own by its encoder, which may have
    fewer layers than the decoder."""
    if not model.config.is_encoder_decoder or not config.use_cache or config.cache_implementation is not None:
        return {}
    if learns_a_prompt(model):  # peft fills a cache itself
        return {}
    return {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}


def stop_ends(response: Tensor, stops: StopSequences) -> Tensor:
    """(B, R) bool, True where a token completes a stop or a stop is still close behind."""
    watch, rows = stops.watch(len(response)), list(range(len(response)))
    columns = [watch.completed(rows, column) for column in response.T.tolist()]
    return torch.tensor(columns, dtype=torch.bool, device=response.device).reshape(-1, len(response)).T
