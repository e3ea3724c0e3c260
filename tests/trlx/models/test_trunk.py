"""Training from the frozen trunk's kept output equals training from the token ids, in outputs and in gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import CAUSAL, EOS, LAYERS, PAD, Rows, hydra, ragged_rows
from torch import Tensor

from trlx.data.ppo_types import PPORLBatch, PPORLElement, collate
from trlx.generation.sampling import generate
from trlx.models.branches import find_blocks

causal = pytest.mark.parametrize("family", CAUSAL)
SAMPLING = {"max_new_tokens": 9, "do_sample": True, "eos_token_id": list(range(0, 61, 7))}  # some rows end early


def elements(policy: Any, rows: Rows) -> list[PPORLElement]:
    """What a rollout keeps of each row: no pads, and the trunk's output at the row's tokens."""
    out = policy.response_pass(*rows.inputs(), with_reference=True)
    both = torch.cat([rows.query_mask, rows.response_mask], 1)
    kept = []
    for row, real in enumerate(rows.response_mask):
        response = rows.response[row][real]
        none = torch.zeros(len(response))
        query = rows.query[row][rows.query_mask[row]]
        kept.append(PPORLElement(query, response, none, none, none, trunk=out["trunk"][row][both[row]], clean=True))
    return kept


def remixed(policy: Any) -> PPORLBatch:
    """Rows of two rollouts of other widths in one batch of a third."""
    with torch.no_grad():
        one = elements(policy, ragged_rows())
        two = elements(policy, ragged_rows((3, 9, 4), (6, 1, 3), seed=2))
    return collate([two[2], one[0], two[0], one[1]], PAD)


def learn(policy: Any, batch: PPORLBatch, trunk: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(outputs, gradients by parameter) of some loss over the real tokens."""
    policy.zero_grad()
    ids = (batch.query_tensors, batch.query_mask, batch.response_tensors, batch.response_mask)
    out = policy(*ids, temperature=0.7, trunk=trunk, response_pass=True)
    real = batch.response_mask
    assert real is not None
    loss = (out["logprobs"] * real).sum() + (out["values"] * real).square().sum()
    loss.backward()
    shown = {name: (out[name] * real).detach() for name in ("logprobs", "values")}
    return shown, {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def assert_equal_learning(policy: Any) -> None:
    batch = remixed(policy)
    assert batch.trunk is not None
    with torch.no_grad():  # what is kept outlives updates of all that lies above it
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    full, full_gradients = learn(policy, batch, None)
    replayed, gradients = learn(policy, batch, batch.trunk)
    for name, expected in full.items():
        torch.testing.assert_close(replayed[name], expected, atol=1e-5, rtol=0, msg=name)
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    assert gradients.keys() == full_gradients.keys() == trained
    for name, expected in full_gradients.items():
        assert float((gradients[name] - expected).abs().max()) <= 2e-5 * max(1.0, float(expected.abs().max())), name


@pytest.mark.parametrize("unfrozen", [0, 1, 2])
@causal
def test_replaying_the_trunk_equals_the_full_pass(family: str, unfrozen: int) -> None:
    assert_equal_learning(hydra(family, unfrozen))


@pytest.mark.parametrize(("unfrozen", "branch"), [(0, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("family", ["gpt_neo", "gpt_neox", "opt_350m", "mistral", "qwen2"])
def test_a_value_branch_replays_too(family: str, unfrozen: int, branch: int) -> None:
    assert_equal_learning(hydra(family, unfrozen, num_value_layers_unfrozen=branch))


@torch.no_grad()
@causal
def test_the_output_kept_while_decoding_serves_as_well(family: str) -> None:
    policy, prompts = hydra(family, 1), ragged_rows()
    torch.manual_seed(4)
    made = generate(
        policy.base_model,
        prompts.query,
        prompts.query_mask.long(),
        SAMPLING,
        EOS,
        PAD,
        with_logprobs=True,
        keep_output_of=policy.trunk.top,
    )
    lengths = made.response_mask.sum(1)
    assert lengths.min() < lengths.max()
    rows = (prompts.query, prompts.query_mask, made.response, made.response_mask)
    full = policy.response_pass(*rows, with_reference=True)
    assert made.states is not None
    quick = policy.response_pass(*rows, trunk=made.states, with_reference=True)
    for name in ("logprobs", "values", "ref_logprobs", "entropy"):
        torch.testing.assert_close(quick[name][made.response_mask], full[name][made.response_mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        made.logprobs[made.response_mask], full["logprobs"][made.response_mask], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("unfrozen", [0, 1, 2])
@causal
def test_replay_leaves_the_bottom_out(family: str, unfrozen: int) -> None:
    policy, rows, ran = hydra(family, unfrozen), ragged_rows(), []
    kept = policy.response_pass(*rows.inputs(), with_reference=True)["trunk"]
    for index, block in enumerate(find_blocks(policy.base_model)):
        block.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    policy.response_pass(*rows.inputs(), trunk=kept)
    assert ran == list(range(LAYERS - unfrozen, LAYERS))
    ran.clear()
    policy.response_pass(*rows.inputs())
    assert ran == list(range(LAYERS))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        policy, calls = hydra("gpt_neo", 2), []
        batch = remixed(policy)
        if checkpointing:
            policy.base_model.gradient_checkpointing_enable({"use_reentrant": False})
        find_blocks(policy.base_model)[-1].ln_1.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        gradients.append(learn(policy.train(), batch, batch.trunk)[1])
        assert len(calls) == 1 + checkpointing  # the block runs again in the backward pass
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)
