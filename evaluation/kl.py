"""KL(π ‖ π_ref) of whole responses, estimated from samples of π.

One response a post is sampled from π at temperature 1, and both models give the log-probability of each of its tokens
(EOS included) in a plain forward pass. With d_t = log π − log π_ref (Schulman 2020), the sequence KL is the mean over
posts of Σ_t k1_t = Σ_t d_t; Σ_t k3_t = Σ_t (exp(−d_t) − 1 + d_t) estimates the same and is never negative. In nats.
Greedy outputs are not used: the sum of d_t over an argmax is no KL. A response cut at the length limit counts up to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from evaluation.decoding import UNCUT, up_to
from evaluation.statistics import Interval, mean_interval
from trlx.functional.kl import k1, k3
from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import position_ids
from trlx.functional.padding import left_pad
from trlx.generation.sampling import generate

Progress = Callable[[int], object]


@dataclass(frozen=True)
class SampledResponse:
    """Token ids of one prompt and what π wrote after it; `logprobs` (len(response_ids),) float32 are π's, in nats."""

    prompt_ids: list[int]
    response_ids: list[int]  # EOS included where it ended
    logprobs: Tensor


@dataclass(frozen=True)
class SequenceKL:
    """Means over posts of Σ_t k1_t and Σ_t k3_t, in nats; `tokens` is the number of response tokens they rest on."""

    k1: Interval
    k3: Interval
    tokens: int


def sample_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    seed: int,
    progress: Progress | None = None,
) -> list[SampledResponse]:
    """One response a prompt at temperature 1, uncut by top-k or top-p, with π's log-probabilities; in prompt order."""
    eos = int(tokenizer.eos_token_id)
    encoded = [list(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts]
    set_seed(seed)
    made: dict[int, SampledResponse] = {}
    for rows in _batches(encoded, batch_size):
        ids, mask = left_pad([encoded[i] for i in rows], eos, model.device)
        out = generate(model, ids, mask, up_to(max_new_tokens, UNCUT), eos, eos)
        responses = [out.response[row][out.response_mask[row]].tolist() for row in range(len(rows))]
        logprobs = response_logprobs(model, [encoded[i] for i in rows], responses, batch_size)
        made.update(
            {
                i: SampledResponse(encoded[i], response, logprob)
                for i, response, logprob in zip(rows, responses, logprobs, strict=True)
            }
        )
        if progress is not None:
            progress(len(rows))
    return [made[i] for i in range(len(prompts))]


def _batches(rows: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices in batches of similar length, longest first (running out of memory then shows at once)."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@torch.no_grad()
def response_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    batch_size: int,
    progress: Progress | None = None,
) -> list[Tensor]:
    """log π of every response token, in nats.

    Args:
        model: a causal language model in evaluation mode.
        prompts, responses: n lists of token ids each; neither may be empty.

    Returns: n float32 CPU tensors, the i-th of shape (len(responses[i]),).
    """
    joined = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    results: dict[int, Tensor] = {}
    for rows in _batches(joined, batch_size):
        ids, mask = left_pad([joined[i] for i in rows], 0, model.device)
        longest = max(len(responses[i]) for i in rows)
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=False,
            logits_to_keep=longest + 1,
            **_positions(model, mask),
        ).logits
        # Rows are right-aligned, so each response is the last len(response) columns; logits at t predict t + 1.
        values = logprobs_of_tokens(logits[:, -longest - 1 : -1], ids[:, -longest:]).cpu()
        results.update({i: values[row, longest - len(responses[i]) :] for row, i in enumerate(rows)})
        if progress is not None:
            progress(len(rows))
    return [results[i] for i in range(len(joined))]


def _positions(model: PreTrainedModel, mask: Tensor) -> dict[str, Tensor]:
    """Positions counted from the first real token, for the families that take them (BLOOM has none)."""
    takes = "position_ids" in inspect.signature(model.forward).parameters
    return {"position_ids": position_ids(mask)} if takes else {}


def sequence_kl(samples: Sequence[SampledResponse], ref_logprobs: Sequence[Tensor], resamples: int) -> SequenceKL:
    """The estimate from π's samples and the reference's log-probabilities of the same tokens."""
    pairs = [(sample.logprobs, ref) for sample, ref in zip(samples, ref_logprobs, strict=True)]
    return SequenceKL(
        k1=mean_interval([float(k1(pi, ref).sum()) for pi, ref in pairs], resamples=resamples),
        k3=mean_interval([float(k3(pi, ref).sum()) for pi, ref in pairs], resamples=resamples),
        tokens=sum(len(ref) for ref in ref_logprobs),
    )


def kl_to_reference(
    samples: Sequence[SampledResponse],
    reference: PreTrainedModel,
    batch_size: int,
    resamples: int,
    progress: Progress | None = None,
) -> SequenceKL:
    """KL(π ‖ reference) from samples of π that `sample_responses` made; both must share one vocabulary."""
    refs = response_logprobs(
        reference,
        [sample.prompt_ids for sample in samples],
        [sample.response_ids for sample in samples],
        batch_size,
        progress,
    )
    return sequence_kl(samples, refs, resamples)
