"""`response_pass` and `forward` against plain forwards of the same model, for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import CAUSAL, EOS, FAMILIES, PAD, VOCAB, Rows, hydra, ragged_rows, random_model
from torch import Tensor

from trlx.functional.logprobs import entropy, logprobs_of_tokens
from trlx.functional.masking import position_ids
from trlx.generation.sampling import generate

PROMPTS = ragged_rows(responses=(1, 1, 1))
families = pytest.mark.parametrize("family", FAMILIES)


def widest_gap(got: Tensor, expected: Tensor, mask: Tensor) -> float:
    return float((got - expected)[mask].abs().max())


def alone(model: Any, rows: Rows, row: int) -> Tensor:
    """(n, V) logits that predict one row's response, from a plain forward of that row without pads."""
    n = int(rows.response_mask[row].sum())
    if not model.config.is_encoder_decoder:
        return model(input_ids=rows.joined(row)).logits[0, -n - 1 : -1]
    decoder = torch.cat([torch.tensor([model.config.decoder_start_token_id]), rows.response[row, : n - 1]])
    prompt = rows.query[row][rows.query_mask[row]].unsqueeze(0)
    return model(input_ids=prompt, decoder_input_ids=decoder.unsqueeze(0)).logits[0]


@torch.no_grad()
@families
def test_log_probabilities_of_a_padded_batch_equal_those_of_each_row_alone(family: str) -> None:
    policy, model, rows = hydra(family, 2), random_model(family), ragged_rows()
    got = policy.response_pass(*rows.inputs(), temperature=0.7, with_reference=True)
    for row in range(len(rows.query)):
        logits = alone(model, rows, row).unsqueeze(0)
        n = logits.shape[1]
        expected = logprobs_of_tokens(logits, rows.response[row : row + 1, :n], 0.7)
        torch.testing.assert_close(got["logprobs"][row : row + 1, :n], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(got["ref_logprobs"][row : row + 1, :n], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(got["entropy"][row : row + 1, :n], entropy(logits, 0.7), atol=1e-5, rtol=0)


@torch.no_grad()
@families
def test_padding_changes_nothing(family: str) -> None:
    policy, rows = hydra(family, 2), ragged_rows()
    out = policy.response_pass(*rows.inputs(), with_reference=True)
    pads, width = torch.full((3, 4), PAD), rows.response.shape[1]
    none = torch.zeros(3, 4, dtype=torch.bool)
    wide = policy.response_pass(
        torch.cat([pads, rows.query], 1),
        torch.cat([none, rows.query_mask], 1),
        torch.cat([rows.response, pads], 1),
        torch.cat([rows.response_mask, none], 1),
        with_reference=True,
    )
    for name in ("logprobs", "values", "ref_logprobs", "entropy"):
        assert widest_gap(wide[name][:, :width], out[name], rows.response_mask) <= 1e-5, name


@torch.no_grad()
@families
def test_log_probabilities_seen_while_sampling_equal_the_training_pass(family: str) -> None:
    policy, settings = hydra(family, 2), {"max_new_tokens": 9, "do_sample": True, "temperature": 0.6}
    torch.manual_seed(3)
    prompts = (PROMPTS.query, PROMPTS.query_mask.long())
    made = generate(policy.base_model, *prompts, settings, EOS, PAD, with_logprobs=True)
    response = (PROMPTS.query, PROMPTS.query_mask, made.response, made.response_mask)
    out = policy.response_pass(*response, temperature=0.6)
    assert made.logprobs is not None
    assert widest_gap(made.logprobs, out["logprobs"], made.response_mask) <= 1e-5
    # and at another temperature they differ, so the agreement says something
    other = policy.response_pass(*response, temperature=1.0)["logprobs"]
    assert widest_gap(made.logprobs, other, made.response_mask) > 1e-2


@torch.no_grad()
@families
def test_values_come_from_the_state_before_each_token(family: str) -> None:
    policy, rows = hydra(family, 2), ragged_rows(responses=(5, 5, 5))
    before = policy.response_pass(*rows.inputs())["values"]
    rows.response[:, -1] = (rows.response[:, -1] - 1) % (VOCAB - 2) + 2  # another last token: no state has seen it
    assert torch.equal(policy.response_pass(*rows.inputs())["values"], before)
    rows.response[:, 0] = (rows.response[:, 0] - 1) % (VOCAB - 2) + 2  # another first: all but the first state have
    after = policy.response_pass(*rows.inputs())["values"]
    assert torch.equal(after[:, 0], before[:, 0]) and (after[:, 1:] != before[:, 1:]).all()


@torch.no_grad()
@families
def test_the_whole_forward_holds_the_response_pass(family: str) -> None:
    """trlX's forward over all positions, whose log-probabilities and values users slice themselves."""
    policy, rows = hydra(family, 1), ragged_rows()
    part = policy.response_pass(*rows.inputs(), with_reference=True)
    if policy.bare.config.is_encoder_decoder:
        inputs = policy.layout.inputs(*rows.inputs())
        inputs.pop("use_cache")
        first, last = 0, None
    else:
        mask = torch.cat([rows.query_mask, rows.response_mask], 1).long()
        inputs = {"input_ids": torch.cat([rows.query, rows.response], 1), "attention_mask": mask}
        first, last = rows.query.shape[1] - 1, -1
    whole, reference = policy(**inputs), policy.forward_hydra(**inputs, return_dict=True)
    assert whole.logits.shape[:2] == whole.value.shape == reference.logits.shape[:2]
    logprobs = logprobs_of_tokens(whole.logits[:, first:last], rows.response)
    ref_logprobs = logprobs_of_tokens(reference.logits[:, first:last], rows.response)
    assert widest_gap(logprobs, part["logprobs"], rows.response_mask) <= 1e-5
    assert widest_gap(ref_logprobs, part["ref_logprobs"], rows.response_mask) <= 1e-5
    assert widest_gap(whole.value[:, first:last], part["values"], rows.response_mask) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL)
def test_two_halves_with_a_cache_equal_one_forward(family: str) -> None:
    policy, rows = hydra(family, 1), ragged_rows()
    ids = torch.cat([rows.query, rows.response], 1)
    mask = torch.cat([rows.query_mask, torch.ones_like(rows.response_mask)], 1).long()
    whole, half = policy(ids, mask), ids.shape[1] - 4
    first = policy(ids[:, :half], mask[:, :half], use_cache=True)
    second = policy(ids[:, half:], mask, past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(second.logits, whole.logits[:, half:], atol=1e-5, rtol=0)
    torch.testing.assert_close(second.value, whole.value[:, half:], atol=1e-5, rtol=0)
    # without the cache the second half alone is something else
    assert (policy(ids[:, half:], mask[:, half:]).logits - second.logits).abs().max() > 1e-2


def greedy_by_hand(model: Any, row: int, steps: int) -> list[int]:
    """One prompt without pads, the likeliest next token of a full forward again and again."""
    prompt = PROMPTS.query[row][PROMPTS.query_mask[row]].unsqueeze(0)
    tokens = prompt[:, :0] if model.config.is_encoder_decoder else prompt
    for _ in range(steps):
        if model.config.is_encoder_decoder:
            start = torch.full((1, 1), model.config.decoder_start_token_id)
            logits = model(input_ids=prompt, decoder_input_ids=torch.cat([start, tokens], 1)).logits
        else:
            logits = model(input_ids=tokens).logits
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)
    return tokens[0, -steps:].tolist()


@torch.no_grad()
@families
def test_greedy_decoding_agrees_three_ways(family: str) -> None:
    """Our loop (or fallback), the wrapper's `generate`, which is transformers', and full forwards without a cache."""
    policy, model, steps = hydra(family, 1), random_model(family), 6
    ids, mask = PROMPTS.query, PROMPTS.query_mask.long()
    ours = generate(policy.base_model, ids, mask, {"max_new_tokens": steps}, None, PAD).response
    options = {"max_new_tokens": steps, "do_sample": False, "pad_token_id": PAD, "eos_token_id": VOCAB + 1}
    if family != "t5_v1_1":  # fewer encoder than decoder blocks: transformers' own cache has too few layers
        theirs = policy.generate(input_ids=ids, attention_mask=mask, **options)
        assert torch.equal(theirs[:, -steps:], ours)
    assert ours.tolist() == [greedy_by_hand(model, row, steps) for row in range(len(ids))]
    assert len({tuple(row) for row in ours.tolist()}) == len(ids)


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL)
def test_positions_follow_from_the_mask(family: str) -> None:
    policy, rows = hydra(family, -1), ragged_rows()
    mask = torch.cat([rows.query_mask, rows.response_mask], 1).long()
    ids = torch.cat([rows.query, rows.response], 1)
    assert ("position_ids" in policy.forward_kwargs) == (family != "bloom")  # whose slopes follow the mask themselves
    given = policy(ids, mask, position_ids=position_ids(mask))
    assert torch.equal(policy(ids, mask).logits, given.logits)


@torch.no_grad()
@pytest.mark.parametrize("family", CAUSAL)
def test_the_text_pass_is_a_plain_forward_of_the_language_model(family: str) -> None:
    policy, model = hydra(family, 2), random_model(family)
    ids = torch.randint(2, VOCAB, (3, 9), generator=torch.Generator().manual_seed(5))
    expected = logprobs_of_tokens(model(input_ids=ids).logits[:, :-1], ids[:, 1:])
    got = policy(ids, text_pass=True)
    assert got.shape == (3, 8)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
