"""Does a policy say the same alone and in a batch, while sampling and while training, as its own reference?

Before the first step it must: the ratio of PPO is 1 then and the divergence from the reference 0. Looked at with the
engine's own classes, on a few texts that come along. Left out: encoder-decoders, wrappers (DDP, DeepSpeed), adapters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from launch.doctor.finding import Finding, judge
from launch.doctor.texts import TEXTS
from reward_model.encoding import right_pad, token_ids
from trlx.functional.masking import masked_sum
from trlx.functional.padding import left_pad
from trlx.generation.sampling import Generated, generate
from trlx.models.loading import load_language_model, load_policy_tokenizer
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead
from trlx.models.policy import HydraValueHeadModel
from trlx.utils.blocks import find_blocks
from trlx.utils.pretrained import load_config

NEW_TOKENS = 8
TOLERANCE = 1e-3  # nats of one token, and of a ratio; float32 gives about 1e-6 on a CPU, 1e-4 on a GPU
PADDING = "batches would change what is learned: use another attention implementation or model, float32 to compare"
RATIO = "updates would begin with a wrong ratio: dropout off, float32, and no options that change logits while sampling"
DIVERGENCE = "the reference is not the policy that training starts from: load both from one folder"


def load_hydra(path: str, num_layers_unfrozen: int, device: torch.device) -> HydraValueHeadModel:
    """A policy with its frozen reference, as PPO makes it. Raises: UserError when it cannot be read."""
    base = load_language_model(path)
    unfrozen = min(num_layers_unfrozen, len(find_blocks(base)))
    return AutoModelForCausalLMWithHydraValueHead(base, num_layers_unfrozen=unfrozen).to(device).eval()


def load_and_examine(
    name: str, path: str, num_layers_unfrozen: int, temperature: float, device: torch.device
) -> list[Finding]:
    """`policy_findings` of a folder or hub id. Raises: UserError when it cannot be read."""
    if load_config(path, "--policy").is_encoder_decoder:
        return [
            Finding(
                "warn", f"model, {name}", "an encoder-decoder: ratio and KL are not looked at", "see the first metrics"
            )
        ]
    tokenizer = load_policy_tokenizer(path)
    with seeded(device):  # a new value head takes random numbers too
        return policy_findings(name, load_hydra(path, num_layers_unfrozen, device), tokenizer, temperature)


@contextlib.contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Within it torch's generators of the processor and the device begin at 0; afterwards they are as they were.

    Other GPUs are left alone: to look at their generators takes memory there.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(0)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)
        yield


@torch.no_grad()
def policy_findings(
    name: str, model: HydraValueHeadModel, tokenizer: PreTrainedTokenizerBase, temperature: float
) -> list[Finding]:
    """Padding invariance, the ratio and the divergence before any step; the random generators end as they were.

    Args:
        name: what to call the model. model: in eval mode, on its device. temperature: of sampling.
    """
    with seeded(model.bare.device):
        return [_padding(name, model, tokenizer), *_first_step(name, model, tokenizer, temperature)]


def _padding(name: str, model: HydraValueHeadModel, tokenizer: PreTrainedTokenizerBase) -> Finding:
    """Log-probabilities of each summary alone and in one batch of all."""
    rows = _rows(model, tokenizer)
    together = _logprobs(model, tokenizer, rows)
    alone = [_logprobs(model, tokenizer, [row])[0] for row in rows]
    gap = float((torch.cat(alone) - torch.cat(together)).abs().max())
    seen = f"log-probabilities change by up to {gap:.1e} beside a longer text"
    return judge(gap <= TOLERANCE, f"padding, {name}", seen, PADDING)


def _rows(model: HydraValueHeadModel, tokenizer: PreTrainedTokenizerBase) -> list[tuple[list[int], list[int]]]:
    """Ids of prompts and summaries; a model of few positions reads the end of a prompt."""
    rows = [(token_ids(tokenizer, prompt), token_ids(tokenizer, " " + summary)) for prompt, summary in TEXTS]
    positions = getattr(model.bare.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        return rows
    room = max(positions - max(NEW_TOKENS, *(len(summary) for _, summary in rows)), 1)
    return [(prompt[-room:], summary) for prompt, summary in rows]


def _logprobs(
    model: HydraValueHeadModel, tokenizer: PreTrainedTokenizerBase, rows: list[tuple[list[int], list[int]]]
) -> list[Tensor]:
    """Of each row's response tokens (n,), from one pass over all rows."""
    device, pad = model.bare.device, int(tokenizer.pad_token_id)
    query, query_mask = left_pad([prompt for prompt, _ in rows], pad, device)
    response, mask = (part.to(device) for part in right_pad([answer for _, answer in rows], pad))
    found = model.response_pass(query, query_mask.bool(), response, mask.bool())["logprobs"]
    return [found[index, : len(answer)] for index, (_, answer) in enumerate(rows)]


def _first_step(
    name: str, model: HydraValueHeadModel, tokenizer: PreTrainedTokenizerBase, temperature: float
) -> list[Finding]:
    """A rollout, the pass over it that PPO keeps, and the pass that the first update would make."""
    device, pad = model.bare.device, int(tokenizer.pad_token_id)
    query, mask = left_pad([prompt for prompt, _ in _rows(model, tokenizer)], pad, device)
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": True, "temperature": temperature}
    top = model.trunk.top if model.trunk else None
    ends = tokenizer.eos_token_id
    made = generate(model.base_model, query, mask, options, ends, pad, with_logprobs=True, keep_output_of=top)
    rows = (query, mask.bool(), made.response, made.response_mask, temperature)
    kept = model.response_pass(*rows, trunk=made.states, with_reference=True)
    update = model.response_pass(*rows, trunk=kept["trunk"])
    assert kept["ref_logprobs"] is not None
    return [
        _ratio(name, "ratio", update["logprobs"] - kept["logprobs"], made, "of the first update to the rollout"),
        *([] if made.logprobs is None else [_sampling(name, update["logprobs"] - made.logprobs, made)]),
        _divergence(name, kept["logprobs"] - kept["ref_logprobs"], made),
    ]


def _sampling(name: str, gap: Tensor, made: Generated) -> Finding:
    return _ratio(name, "sampling", gap, made, "of the first update to what was sampled from")


def _ratio(name: str, what: str, gap: Tensor, made: Generated, about: str) -> Finding:
    """Args: gap: (B, R) nats, update minus rollout."""
    furthest = float((gap[made.response_mask].exp() - 1).abs().max())
    seen = f"the ratio {about} is within {furthest:.1e} of 1"
    return judge(furthest <= TOLERANCE, f"{what}, {name}", seen, RATIO)


def _divergence(name: str, gap: Tensor, made: Generated) -> Finding:
    """Args: gap: (B, R) nats, policy minus reference."""
    furthest = float(masked_sum(gap, made.response_mask, dim=1).abs().max())
    seen = f"the policy is within {furthest:.1e} nats of its own reference before step one"
    return judge(furthest <= TOLERANCE, f"KL, {name}", seen, DIVERGENCE)
