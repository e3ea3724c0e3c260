"""A trained policy on disk: transformers loads it with equal logits, the wrapper with equal values and reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import CAUSAL, FAMILIES, LAYERS, VOCAB, hydra, ragged_rows, random_model
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead, AutoModelForCausalLMWithValueHead
from trlx.utils.errors import UserError


def trained(policy: Any) -> Any:
    """As if it had been: everything that trains has moved."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return policy


@torch.no_grad()
@pytest.mark.parametrize("unfrozen", [-1, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_again(family: str, unfrozen: int, tmp_path: Path) -> None:
    policy, rows = trained(hydra(family, unfrozen)), ragged_rows()
    policy.save_pretrained(tmp_path)
    inputs = policy.layout.inputs(*rows.inputs())
    auto = AutoModelForCausalLM if family in CAUSAL else AutoModelForSeq2SeqLM
    plain = auto.from_pretrained(tmp_path).eval()
    assert torch.equal(plain(**inputs).logits, policy(**inputs).logits)
    again = type(policy).from_pretrained(str(tmp_path), num_layers_unfrozen=unfrozen).eval()
    before, after = policy(**inputs), again(**inputs)
    assert torch.equal(after.logits, before.logits) and torch.equal(after.value, before.value)
    # The reference of what was loaded is what was loaded.
    assert torch.equal(again.forward_hydra(**inputs), before.logits)
    # A tied head is written once and is tied again, an untied one twice.
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        shapes = [tuple(file.get_slice(name).get_shape()) for name in set(file.keys())]
    assert sum(len(shape) == 2 and shape[0] == VOCAB for shape in shapes) == (1 if FAMILIES[family].tied else 2)
    tied = again.bare.get_output_embeddings().weight is again.bare.get_input_embeddings().weight
    assert tied == FAMILIES[family].tied


def test_a_given_state_dict_is_written_instead(tmp_path: Path) -> None:
    policy, other = hydra("gpt2", 1), trained(hydra("gpt2", 1))
    policy.save_pretrained(tmp_path, state_dict=other.state_dict())
    again = AutoModelForCausalLMWithHydraValueHead.from_pretrained(tmp_path)
    loaded = dict(again.named_parameters())
    for name, value in other.named_parameters():
        if not name.startswith("frozen_head."):
            assert torch.equal(loaded[name], value), name


@torch.no_grad()
@pytest.mark.parametrize("branch", [0, 1])
def test_the_critic_comes_back_and_the_reference_is_not_written(branch: int, tmp_path: Path) -> None:
    policy = trained(hydra("llama", 2, num_value_layers_unfrozen=branch))
    policy.save_pretrained(tmp_path)
    with safe_open(tmp_path / "heads.safetensors", "pt") as file:
        assert set(file.keys()) == {f"v_head.{name}" for name in policy.v_head.state_dict()}
    rows = ragged_rows()
    for wrapper in (AutoModelForCausalLMWithHydraValueHead, AutoModelForCausalLMWithValueHead):
        again = wrapper.from_pretrained(tmp_path, num_value_layers_unfrozen=branch).eval()
        inputs = policy.layout.inputs(*rows.inputs())
        assert torch.equal(again(**inputs).value, policy(**inputs).value)
    with pytest.raises(UserError, match="its heads"):
        AutoModelForCausalLMWithValueHead.from_pretrained(tmp_path, num_value_layers_unfrozen=1 - branch)


def test_a_plain_model_has_a_fresh_critic(tmp_path: Path) -> None:
    random_model("gpt_neo").save_pretrained(tmp_path)
    one = AutoModelForCausalLMWithValueHead.from_pretrained(tmp_path)
    for name, value in random_model("gpt_neo").state_dict().items():
        assert torch.equal(one.base_model.state_dict()[name], value)
    assert any(bool(parameter.abs().max() > 0) for parameter in one.v_head.parameters())


def test_low_precision_folders_load_in_float32_unless_told_otherwise(tmp_path: Path) -> None:
    random_model("gpt2").to(torch.bfloat16).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLMWithValueHead.from_pretrained(tmp_path).base_model.dtype == torch.float32
    half = AutoModelForCausalLMWithValueHead.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.base_model.dtype == torch.bfloat16


@torch.no_grad()
def test_adapters_are_saved_as_adapters_and_come_back_with_the_critic(tmp_path: Path) -> None:
    base, folder, rows = tmp_path / "base", tmp_path / "policy", ragged_rows()
    random_model("llama").save_pretrained(base)
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "init_lora_weights": False}
    policy = AutoModelForCausalLMWithHydraValueHead.from_pretrained(base, peft_config=lora).eval()
    trained(policy).save_pretrained(folder)
    again = AutoModelForCausalLMWithHydraValueHead.from_pretrained(folder).eval()
    inputs = policy.layout.inputs(*rows.inputs())
    before, after = policy(**inputs), again(**inputs)
    assert torch.equal(after.logits, before.logits) and torch.equal(after.value, before.value)
    reference = again.forward_hydra(**inputs)
    torch.testing.assert_close(reference, random_model("llama")(**inputs).logits, atol=1e-6, rtol=0)
    assert (reference - before.logits).abs().max() > 1e-2
    assert again.base_model.get_base_model().config.num_hidden_layers == LAYERS
