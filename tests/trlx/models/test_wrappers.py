"""The wrappers as trlX's users call them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from families import EOS, FAMILIES, PAD, hydra, ragged_rows, random_model
from torch import nn
from transformers import PreTrainedModel

from trlx.functional.masking import position_ids
from trlx.models.modeling_ppo import (
    AutoModelForCausalLMWithHydraValueHead,
    AutoModelForCausalLMWithValueHead,
    AutoModelForSeq2SeqLMWithHydraValueHead,
    AutoModelForSeq2SeqLMWithValueHead,
    CausalLMOutputWithValue,
    Seq2SeqLMOutputWithValue,
)
from trlx.utils.errors import UserError

CAUSAL_WRAPPERS = (AutoModelForCausalLMWithValueHead, AutoModelForCausalLMWithHydraValueHead)
SEQ2SEQ_WRAPPERS = (AutoModelForSeq2SeqLMWithValueHead, AutoModelForSeq2SeqLMWithHydraValueHead)
WRAPPERS = [("gpt2", wrapper) for wrapper in CAUSAL_WRAPPERS] + [("t5", wrapper) for wrapper in SEQ2SEQ_WRAPPERS]
wrappers = pytest.mark.parametrize(("family", "wrapper"), WRAPPERS)


def whole(family: str) -> dict[str, Any]:
    """Arguments of a forward over whole sequences; B = 3."""
    rows = ragged_rows()
    inputs = {"input_ids": rows.query, "attention_mask": rows.query_mask.long()}
    return inputs | ({"decoder_input_ids": rows.response} if FAMILIES[family].encoder else {})


@torch.no_grad()
@wrappers
def test_forward_gives_an_object_or_a_tuple(family: str, wrapper: Any) -> None:
    model, inputs = wrapper.from_pretrained(random_model(family)).eval(), whole(family)
    output = model(**inputs, return_dict=True)
    kind = Seq2SeqLMOutputWithValue if FAMILIES[family].encoder else CausalLMOutputWithValue
    assert type(output) is kind
    positions = {} if FAMILIES[family].encoder else {"position_ids": position_ids(inputs["attention_mask"])}
    assert torch.equal(output.logits, random_model(family)(**inputs, **positions).logits)
    shape = inputs["decoder_input_ids" if FAMILIES[family].encoder else "input_ids"].shape
    assert output.value.shape == shape and output.value.dtype == torch.float32
    parts = model(**inputs)
    assert isinstance(parts, tuple)
    assert torch.equal(parts[0], output.logits) and torch.equal(parts[-1], output.value)


@torch.no_grad()
@pytest.mark.parametrize("unfrozen", [-1, 0, 1])
@pytest.mark.parametrize("reference_first", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_hidden_states_of_policy_and_reference(family: str, reference_first: bool, unfrozen: int) -> None:
    model, inputs = hydra(family, unfrozen), whole(family)
    calls = [model, model.forward_hydra]
    inputs = inputs | {"return_dict": True}
    outputs = [call(**inputs, output_hidden_states=True) for call in (reversed(calls) if reference_first else calls)]
    name = "decoder_hidden_states" if FAMILIES[family].encoder else "hidden_states"
    one, other = (getattr(output, name) for output in outputs)
    assert len(one) == len(other) == 4  # what enters block 0, and three outputs
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(outputs[0].logits, outputs[1].logits)
    if unfrozen:  # the reference's states are its own: they stay where they are when the policy moves
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.3)
        reference = getattr(model.forward_hydra(**inputs, output_hidden_states=True), name)
        assert all(torch.equal(a, b) for a, b in zip(reference, one, strict=True))
        assert not torch.equal(getattr(model(**inputs, output_hidden_states=True), name)[-1], one[-1])


@torch.no_grad()
def test_forward_hydra_gives_logits_or_everything() -> None:
    model, inputs = hydra("gpt2", 1), whole("gpt2")
    assert torch.equal(model.forward_hydra(**inputs), model.forward_hydra(**inputs, return_dict=True).logits)


@wrappers
def test_names_in_the_state_dict(family: str, wrapper: Any) -> None:
    names = set(wrapper.from_pretrained(random_model(family)).state_dict())
    assert {f"base_model.{name}" for name in random_model(family).state_dict()} <= names
    head = {"v_head.0.weight", "v_head.0.bias", "v_head.2.weight", "v_head.2.bias"}
    assert {name for name in names if name.startswith("v_head.")} == head
    assert {name.split(".")[0] for name in names} - {"frozen_head"} == {"base_model", "v_head"}
    assert any(name.startswith("frozen_head.") for name in names) == ("Hydra" in wrapper.__name__)


@torch.no_grad()
@wrappers
def test_from_config_is_random_float32_and_without_dropout(family: str, wrapper: Any) -> None:
    config = FAMILIES[family].config()
    model = wrapper.from_config(copy.deepcopy(config))
    assert model.base_model.dtype == torch.float32
    inputs = whole(family)
    model.train()
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)  # dropout would differ
    if "Hydra" in wrapper.__name__:
        assert torch.equal(model.forward_hydra(**inputs), model(**inputs).logits)


@wrappers
def test_generate_is_the_base_models(family: str, wrapper: Any) -> None:
    model, inputs = wrapper.from_pretrained(random_model(family)).eval(), whole(family)
    inputs.pop("decoder_input_ids", None)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": PAD, "eos_token_id": EOS}
    ids = model.generate(**inputs, **options)
    assert torch.equal(ids, random_model(family).generate(**inputs, **options))
    assert ids.shape[1] > (1 if FAMILIES[family].encoder else inputs["input_ids"].shape[1])


@wrappers
def test_only_arguments_the_base_model_knows_are_passed_on(family: str, wrapper: Any) -> None:
    model = wrapper.from_pretrained(random_model(family)).eval()
    given = {"input_ids": 1, "attention_mask": 2, "labels": 3, "output_hidden_states": True, "nonsense": 4}
    kept = model.get_compatible_forward_kwargs(**given)
    assert kept == {name: value for name, value in given.items() if name != "nonsense"}
    assert torch.equal(model(**whole(family), nonsense=1).logits, model(**whole(family)).logits)


def test_the_number_of_trained_layers_is_taken_by_from_pretrained() -> None:
    model = AutoModelForCausalLMWithHydraValueHead.from_pretrained(
        random_model("gpt2"), num_layers_unfrozen=1, num_value_layers_unfrozen=2
    )
    trains = {int(name.split(".")[3]) for name, p in model.named_parameters() if ".h." in name and p.requires_grad}
    assert trains == {2}
    assert len(model.frozen_head.copies) == 2 and len(model.v_head.copies) == 3  # blocks and final norm


@pytest.mark.parametrize("source", [7, None, {"model_type": "gpt2"}, ["gpt2"]])
def test_a_source_that_is_no_model_is_refused(source: Any) -> None:
    with pytest.raises(UserError, match="takes a folder, a hub id or a transformers model"):
        AutoModelForCausalLMWithValueHead.from_pretrained(source)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="no such folder"):
        AutoModelForCausalLMWithValueHead.from_pretrained(str(tmp_path / "nowhere"))


def test_a_folder_of_the_other_kind_is_refused(tmp_path: Any) -> None:
    random_model("t5").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        AutoModelForCausalLMWithValueHead.from_pretrained(str(tmp_path))


def test_a_model_in_memory_is_wrapped_not_copied() -> None:
    base = random_model("gpt2")
    model = AutoModelForCausalLMWithValueHead.from_pretrained(base)
    assert model.base_model is base and isinstance(base, PreTrainedModel) and isinstance(model, nn.Module)


def test_wrong_inputs_are_named() -> None:
    causal = random_model("gpt2")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (torch.nn.Linear(2, 2), {}, "a folder, a hub id or a transformers model, not Linear"),
        (causal, {"num_layers_unfrozn": 1}, "num_layers_unfrozn"),
        (causal, {"num_layers_unfrozen": -2}, "is -2: it must be -1"),
        (random_model("t5"), {}, "does not take an encoder-decoder"),
    ]
    for source, options, message in cases:
        with pytest.raises(UserError, match=message):
            AutoModelForCausalLMWithHydraValueHead.from_pretrained(source, **options)
    with pytest.raises(UserError, match="takes a transformers config, not str"):
        AutoModelForCausalLMWithHydraValueHead.from_config("gpt2")
    config = causal.config
    config.attn_pdrop = 0.3
    AutoModelForCausalLMWithHydraValueHead.from_config(config)
    assert config.attn_pdrop == 0.3  # the caller's stays as it is
