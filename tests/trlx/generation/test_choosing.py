"""Which token a draw gives: exact shares of a grid of draws, and cuts worked by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from trlx.generation.choosing import choose


def shares(logits: torch.Tensor, draws: int, **options: float) -> torch.Tensor:
    """(V,) share of an even grid of draws that gives each token of one row of logits."""
    grid = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    tokens, _ = choose(logits.expand(draws, -1), grid, **options)
    return torch.bincount(tokens, minlength=len(logits)) / draws


@pytest.mark.parametrize("vocabulary", [5, 256, 300, 700])  # less than a block, one, and blocks with a rest
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_every_token_has_its_share_of_the_draws(vocabulary: int, temperature: float) -> None:
    """A token owns an interval of draws as long as its probability: a grid of N hits it p N times, give or take one."""
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(0)) * 2
    logits[1] = float("-inf")
    seen = shares(logits, 10_000, temperature=temperature)
    expected = torch.softmax(logits / temperature, -1)
    assert (seen - expected).abs().max() <= 1.5e-4
    assert seen[1] == 0


# Probabilities .40 .30 .15 .10 .05. top_k 2 leaves 4/7 and 3/7. top_p .75 needs three (.85): .40/.85 and so on.
# top_k 3 first, then top_p .8 of what is left: .471 + .353 = .824 is enough, so two remain.
CUTS = [
    ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0, 0]),
    ({"top_k": 9}, [0.4, 0.3, 0.15, 0.1, 0.05]),
    ({"top_p": 0.75}, [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
    ({"top_p": 0.01}, [1, 0, 0, 0, 0]),
    ({"top_k": 3, "top_p": 0.8}, [4 / 7, 3 / 7, 0, 0, 0]),
]


@pytest.mark.parametrize(("cut", "expected"), CUTS)
def test_cuts_golden(cut: dict[str, float], expected: list[float]) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])  # the likeliest token is not the first
    logits = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]).log()[order.argsort()]
    assert shares(logits, 10_000, **cut)[order].tolist() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("cut", [{"top_k": 7}, {"top_p": 0.9}, {"top_p": 0.999}])
@pytest.mark.parametrize("spread", [0.1, 3.0])  # flat: the nucleus is beyond the first 1,024 tokens
def test_cuts_equal_transformers(cut: dict[str, float], spread: float) -> None:
    logits = torch.randn(1500, generator=torch.Generator().manual_seed(1)) * spread
    warper = TopKLogitsWarper(7) if "top_k" in cut else TopPLogitsWarper(cut["top_p"])
    expected = torch.softmax(warper(torch.zeros(1, 1, dtype=torch.long), logits.unsqueeze(0))[0], -1)
    assert (shares(logits, 4000, **cut) - expected).abs().max() <= 1.5 / 4000


@given(st.integers(1, 600), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_no_token_of_no_probability(vocabulary: int, seed: int, draw: float) -> None:
    """Whatever the draw, also where all but one token are forbidden."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, vocabulary, generator=generator)
    allowed = torch.rand(3, vocabulary, generator=generator) < 0.1
    allowed[:, int(seed % vocabulary)] = True
    logits = logits.masked_fill(~allowed, float("-inf"))
    for cut in ({}, {"top_k": vocabulary}, {"top_p": 0.9}):
        tokens, _ = choose(logits, torch.full((3,), draw, dtype=torch.float64), **cut)
        assert allowed.gather(1, tokens.unsqueeze(1)).all()


def test_logprobs_are_of_the_uncut_distribution_at_the_temperature() -> None:
    """Logits 0 and ln 3: .25 and .75 at temperature 1; at 1/2 they count double, 1 to 9."""
    logits = torch.tensor([[0.0, 3.0]]).clamp(min=1.0).log()
    for temperature, expected in ((1.0, 0.75), (0.5, 0.9)):
        for draw, cut in ((None, {}), (0.99, {}), (0.0, {"top_k": 1})):
            draws = None if draw is None else torch.tensor([draw]).double()
            tokens, logprobs = choose(logits, draws, temperature, with_logprobs=True, **cut)
            assert logprobs is not None and tokens.item() == 1
            assert logprobs.exp().item() == pytest.approx(expected, abs=1e-6)
