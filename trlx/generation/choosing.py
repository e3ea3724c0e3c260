"""The next token from logits: greedy, or by one uniform draw a row.

The draws are given, so a row's token depends on its own logits and draw alone, whichever rows are beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256  # tokens summed together before a draw is looked up: two short searches instead of one over V
BELOW_ONE = 1.0 - 2.0**-40
FIRST_CANDIDATES = 1024


def choose(
    logits: Tensor,
    draws: Tensor | None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    with_logprobs: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """(tokens (B,), log-probabilities (B,) in nats or None).

    Args:
        logits: (B, V) float32. draws: (B,) float64 in [0, 1); None takes the most likely token.
        top_k: sample from the k most likely tokens; 0 = all. top_p: then from the fewest tokens that together have at
            least this probability (nucleus sampling, Holtzman et al. 2020); 1 = all.
        with_logprobs: also log softmax(logits / temperature) of the token, before `top_k` and `top_p`.

    Raises: RuntimeError when a row to sample from is not a distribution: not-a-number, or every token forbidden.
    """
    scaled = logits if temperature == 1.0 else logits / temperature
    normaliser = None
    if draws is None:
        tokens = scaled.argmax(-1)
    elif top_k or top_p < 1.0:
        tokens = _among_candidates(scaled, draws, top_k, top_p)
    else:
        tokens, normaliser = _among_all(scaled, draws)
    if not with_logprobs:
        return tokens, None
    if normaliser is None:
        normaliser = scaled.logsumexp(-1)
    return tokens, scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - normaliser


def _among_all(scaled: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """(tokens (B,), log of the normaliser (B,)): the inverse of the cumulative distribution, found in two steps."""
    vocabulary = scaled.shape[-1]
    top = scaled.amax(-1, keepdim=True)
    mass = (scaled - top).exp_()
    whole = vocabulary // BLOCK * BLOCK
    blocks = [mass[:, :whole].unflatten(1, (-1, BLOCK)).sum(-1)] if whole else []
    blocks += [mass[:, whole:].sum(-1, keepdim=True)] if whole < vocabulary else []
    block_mass = _distribution(torch.cat(blocks, dim=1))
    block, rest = _find(block_mass, draws)
    inside = block.unsqueeze(-1) * BLOCK + torch.arange(BLOCK, device=scaled.device)
    tokens = inside.clamp(max=vocabulary - 1)
    block_tokens = torch.where(inside < vocabulary, mass.gather(-1, tokens), 0.0)
    offset, _ = _find(block_tokens, rest)
    return tokens.gather(-1, offset.unsqueeze(-1)).squeeze(-1), top.squeeze(-1) + block_mass.sum(-1).log()


def _among_candidates(scaled: Tensor, draws: Tensor, top_k: int, top_p: float) -> Tensor:
    """(B,) tokens from the likeliest ones only."""
    vocabulary = scaled.shape[-1]
    if top_k:
        values, ids = scaled.topk(min(top_k, vocabulary))
        mass = torch.softmax(values, -1)
    else:
        mass, ids = _nucleus_candidates(scaled, top_p)
    if top_p < 1.0:
        before = mass.cumsum(-1) - mass
        mass = torch.where(before < top_p, mass, 0.0)
    chosen, _ = _find(_distribution(mass), draws)
    return ids.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def _nucleus_candidates(scaled: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """(probabilities, ids), both (B, n), likeliest first: n that hold `top_p` in every row, all V only if needed."""
    values, ids = scaled.topk(min(FIRST_CANDIDATES, scaled.shape[-1]))
    normaliser = scaled.logsumexp(-1, keepdim=True)
    mass = (values - normaliser).exp()
    if bool((mass.sum(-1) < top_p).any()):
        values, ids = scaled.sort(-1, descending=True)
        mass = (values - normaliser).exp()
    return mass, ids


def _distribution(mass: Tensor) -> Tensor:
    total = mass.sum(-1)
    if not bool((total.isfinite() & (total > 0)).all()):
        raise RuntimeError(
            "no token can be sampled: the model's logits are not-a-number or infinite (training has diverged?), "
            "or every token is forbidden"
        )
    return mass


def _find(mass: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """The item each draw falls on, and where within it.

    Args:
        mass: (B, n) not negative, not normalised. draws: (B,) float64 in [0, 1).

    Returns: (index (B,), fraction (B,) in [0, 1)). An item of mass 0 is never found.
    """
    ends = mass.double().cumsum(-1)
    target = (draws * ends[:, -1]).unsqueeze(-1)
    # The first end beyond the target: its item has mass, as the end before is not beyond it.
    index = torch.searchsorted(ends, target, right=True).clamp(max=mass.shape[-1] - 1)
    width = mass.gather(-1, index).double()
    fraction = (target - (ends.gather(-1, index) - width)) / width
    return index.squeeze(-1), fraction.squeeze(-1).clamp(0.0, BELOW_ONE)
