"""The three critics: shapes, where they look, and what their gradient reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from families import CAUSAL, FAMILIES, LAYERS, PAD, hydra, ragged_rows, random_model
from transformers import (
    AutoModelForSequenceClassification,
    GPTNeoForSequenceClassification,
    LlamaForSequenceClassification,
)

from trlx.models.branches import head_inputs
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead
from trlx.utils.errors import UserError


def value_gradients(policy: Any) -> set[str]:
    """Parameters that the values of a response move."""
    policy.zero_grad()
    policy.response_pass(*ragged_rows().inputs())["values"].square().sum().backward()
    return {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_what_enters_the_output_embeddings(family: str) -> None:
    policy, rows = hydra(family, -1), ragged_rows()
    inputs = policy.layout.inputs(*rows.inputs()) | {"logits_to_keep": 0}
    inputs = policy.get_compatible_forward_kwargs(**inputs)
    with head_inputs(policy.bare) as states:
        output = policy(**inputs)
    head = policy.bare.get_output_embeddings()
    logits = head(states[0])
    if family != "gemma2":  # which bounds its logits afterwards
        assert torch.equal(logits, output.logits)
    assert states[0].shape[-1] == policy.v_head[0].weight.shape[1] == (8 if family == "opt_350m" else 16)
    hidden = torch.relu(states[0] @ policy.v_head[0].weight.T + policy.v_head[0].bias)
    expected = (hidden @ policy.v_head[2].weight.T + policy.v_head[2].bias).squeeze(-1)
    torch.testing.assert_close(output.value, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_value_branch_starts_as_the_policys_own_top(family: str) -> None:
    """With the branch's copies untouched its last state is the policy's, so its head gives what a plain head would."""
    policy, rows = hydra(family, 1, num_value_layers_unfrozen=2), ragged_rows()
    inputs = policy.layout.inputs(*rows.inputs())
    with torch.no_grad(), head_inputs(policy.bare) as states:
        output = policy(**inputs)
    torch.testing.assert_close(output.value, policy.v_head.v_head(states[0]).squeeze(-1), atol=1e-5, rtol=0)
    assert output.value.shape == output.logits.shape[:2]


@pytest.mark.parametrize("unfrozen", [-1, 1])
@pytest.mark.parametrize("family", CAUSAL)
def test_the_branchs_values_move_the_branch_alone(family: str, unfrozen: int) -> None:
    policy = hydra(family, unfrozen, num_value_layers_unfrozen=1)
    moved = value_gradients(policy)
    assert moved and all(name.startswith("v_head.") for name in moved)
    copies = {name for name, p in policy.named_parameters() if name.startswith("v_head.copies.") and p.requires_grad}
    blocks = {name.split(".")[2] for name in moved if name.startswith("v_head.copies.")}
    assert blocks == {name.split(".")[2] for name in copies}  # every copy takes part: blocks and final norm


@pytest.mark.parametrize(("unfrozen", "reaches"), [(-1, True), (1, True), (0, False)])
def test_a_heads_values_move_what_trains_of_the_policy(unfrozen: int, reaches: bool) -> None:
    moved = value_gradients(hydra("gpt_neo", unfrozen))
    assert any(name.startswith("base_model.") for name in moved) == reaches


@pytest.mark.parametrize("layers", [LAYERS, LAYERS + 1, -1])
def test_a_branch_has_fewer_blocks_than_the_model(layers: int) -> None:
    with pytest.raises(UserError, match=f"num_value_layers_unfrozen is {layers}: a value branch has fewer layers"):
        hydra("gpt2", 1, num_value_layers_unfrozen=layers)


def test_an_encoder_decoder_has_no_branch() -> None:
    with pytest.raises(UserError, match="num_value_layers_unfrozen is 1"):
        hydra("t5", 1, num_value_layers_unfrozen=1)


@pytest.fixture(scope="module", params=["gpt_neo", "llama"])
def reward_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = FAMILIES[request.param].config()
    config.num_labels, config.pad_token_id = 1, PAD
    torch.manual_seed(5)
    kind = {"gpt_neo": GPTNeoForSequenceClassification, "llama": LlamaForSequenceClassification}[request.param]
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    folder = tmp_path_factory.mktemp("reward_model")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["gpt2", "mistral", "opt_350m"])
def test_a_separate_critic_scores_each_prefix_as_the_reward_model(family: str, reward_model: Path) -> None:
    policy, rows = hydra(family, 1, critic_path=str(reward_model)), ragged_rows()
    judge = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()
    with torch.no_grad():
        values = policy.response_pass(*rows.inputs())["values"]
        for row in range(len(values)):
            ids = rows.joined(row)
            prompt = int(rows.query_mask[row].sum())
            for step in range(int(rows.response_mask[row].sum())):
                score = judge(input_ids=ids[:, : prompt + step]).logits[0, 0]
                torch.testing.assert_close(values[row, step], score, atol=1e-5, rtol=0)
    moved = value_gradients(policy)
    assert moved and all(name.startswith("v_head.model.") for name in moved)


def test_a_critic_that_knows_fewer_tokens_is_refused(reward_model: Path) -> None:
    base = random_model("gpt2")
    base.resize_token_embeddings(70)
    base.config.vocab_size = 70
    with pytest.raises(UserError, match="knows 61 tokens and the policy 70"):
        AutoModelForCausalLMWithHydraValueHead(base, critic_path=str(reward_model))


def test_a_critic_goes_with_a_causal_model_and_no_branch(reward_model: Path) -> None:
    for family, options in (("t5", {}), ("gpt2", {"num_value_layers_unfrozen": 1})):
        with pytest.raises(UserError, match=r"model\.critic_path needs a causal model"):
            hydra(family, 1, critic_path=str(reward_model), **options)
