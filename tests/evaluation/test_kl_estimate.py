"""The KL estimate: numbers by hand, the exact KL of a small model, padding and batches."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from evaluation.kl import SampledResponse, kl_to_reference, response_logprobs, sample_responses, sequence_kl
from trlx.utils.pretrained import load_tokenizer


@pytest.fixture(scope="module")
def policy(run_root: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(run_root / "ckpts" / "best_checkpoint" / "hf_model").eval()


@pytest.fixture(scope="module")
def reference(run_root: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(run_root / "ckpts" / "sft").eval()


@pytest.fixture(scope="module")
def tokenizer(run_root: Path) -> Any:
    return load_tokenizer(run_root / "ckpts" / "sft")


def test_by_hand() -> None:
    # d = (0.5, −0.2) and (1.0): Σ k1 = 0.3 and 1.0, mean 0.65.
    # k3: e^−0.5 − 1 + 0.5 = 0.106531, e^0.2 − 1 − 0.2 = 0.021403, e^−1 − 1 + 1 = 0.367879; mean of sums 0.247906.
    samples = [
        SampledResponse([1], [2, 3], torch.tensor([-1.0, -1.2])),
        SampledResponse([1], [2], torch.tensor([-0.5])),
    ]
    kl = sequence_kl(samples, [torch.tensor([-1.5, -1.0]), torch.tensor([-1.5])], resamples=100)
    assert kl.k1.mean == pytest.approx(0.65)
    assert kl.k3.mean == pytest.approx(0.2479065, abs=1e-6)
    assert (kl.tokens, kl.k1.n) == (3, 2)


def test_logprobs_do_not_depend_on_padding_or_batch(policy: Any) -> None:
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33]]
    responses = [[40, 41], [50, 51, 52, 53, 54], [60]]
    together = response_logprobs(policy, prompts, responses, batch_size=3)
    for prompt, response, values in zip(prompts, responses, together, strict=True):
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            alone = policy(input_ids=ids).logits[0].log_softmax(-1)
        expected = [float(alone[len(prompt) - 1 + t, token]) for t, token in enumerate(response)]
        assert values.tolist() == pytest.approx(expected, abs=1e-4)
    apart = response_logprobs(policy, prompts, responses, batch_size=1)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(together, apart, strict=True))


def test_same_model_has_no_kl(reference: Any, tokenizer: Any) -> None:
    prompts = ["the cat\nTL;DR:", "my boss lost the keys\nTL;DR:"] * 3
    samples = sample_responses(reference, tokenizer, prompts, 12, 4, seed=0)
    kl = kl_to_reference(samples, reference, batch_size=2, resamples=100)
    assert kl.k1.mean == pytest.approx(0, abs=1e-4)
    assert kl.k3.mean == pytest.approx(0, abs=1e-6)


def test_samples_end_at_eos_and_repeat_with_the_seed(policy: Any, tokenizer: Any) -> None:
    prompts = ["the cat\nTL;DR:"] * 40
    samples = sample_responses(policy, tokenizer, prompts, 10, 16, seed=3)
    again = sample_responses(policy, tokenizer, prompts, 10, 16, seed=3)
    assert [one.response_ids for one in samples] == [one.response_ids for one in again]
    assert len({tuple(one.response_ids) for one in samples}) > 20  # sampled, not greedy
    eos = tokenizer.eos_token_id
    for one in samples:
        assert eos not in one.response_ids[:-1]
        assert one.response_ids[-1] == eos or len(one.response_ids) == 10
        assert one.logprobs.shape == (len(one.response_ids),)


def test_estimate_meets_the_exact_kl_of_one_token(policy: Any, reference: Any, tokenizer: Any) -> None:
    """With one token a response, KL = Σ_v p(v)·(log p(v) − log q(v)), which can be summed over the vocabulary."""
    prompt = "my dog left Rome\nTL;DR:"
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        p, q = (model(input_ids=ids).logits[0, -1].double().log_softmax(-1) for model in (policy, reference))
    exact = float((p.exp() * (p - q)).sum())
    samples = sample_responses(policy, tokenizer, [prompt] * 3000, 1, 500, seed=1)
    kl = kl_to_reference(samples, reference, batch_size=500, resamples=500)
    error = float((p.exp() * (p - q - exact) ** 2).sum().sqrt()) / math.sqrt(3000)
    assert exact > 5 * error  # else the next line could not fail
    assert kl.k1.mean == pytest.approx(exact, abs=4 * error)


def test_positions_are_given_only_to_models_that_take_them() -> None:
    class NoPositions:
        device = torch.device("cpu")

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool, logits_to_keep: int) -> Any:
            return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4)[:, -logits_to_keep:])

        __call__ = forward

    values = response_logprobs(NoPositions(), [[1], [1, 2]], [[2, 3], [3]], 2)  # type: ignore[arg-type]
    assert [v.tolist() for v in values] == [pytest.approx([-math.log(4)] * 2), pytest.approx([-math.log(4)])]
