"""What trains, what is frozen and what the reference is: docs/layers.md is the expectation, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from families import CAUSAL, FAMILIES, LAYERS, Rows, hydra, ragged_rows, random_model
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, BartConfig

from trlx.models.branches import find_blocks
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead
from trlx.utils.errors import UserError

NAMES = {
    "GPT-2": "gpt2",
    "GPT-Neo": "gpt_neo",
    "GPT-J": "gptj",
    "GPT-NeoX, Pythia": "gpt_neox",
    "OPT": "opt",
    "OPT 350m": "opt_350m",
    "Llama": "llama",
    "Mistral": "mistral",
    "Qwen 2": "qwen2",
    "Qwen 3": "qwen3",
    "T5": "t5",
    "T5 1.1, Flan-T5": "t5_v1_1",
    "BLOOM": "bloom",
    "Gemma 2": "gemma2",
    "Gemma 3": "gemma3",
    "Phi": "phi",
    "Falcon": "falcon",
}
DEPTHS = (-1, 0, 2, LAYERS)
families = pytest.mark.parametrize("family", FAMILIES)
depths = pytest.mark.parametrize("unfrozen", DEPTHS)


def table(first: str) -> dict[str, dict[str, str]]:
    """The table of docs/layers.md whose first heading is `first`: row -> column -> cell."""
    lines = (Path(__file__).parents[3] / "docs" / "layers.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = [[cell.strip(" `") for cell in line.strip().strip("|").split("|")] for line in lines[start:]]
    end = next((i for i, line in enumerate(lines[start:]) if not line.startswith("|")), len(lines))
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:end]}


TRAINS, HAS, KEPT, ADAPTERS = table("part"), table("model"), table("the critic is a"), table("adapters")


def column(unfrozen: int) -> str:
    return {-1: "-1", 0: "0", LAYERS: "L"}.get(unfrozen, "n")


def documented(family: str, name: str, unfrozen: int) -> bool:
    """Whether the documentation says that this parameter of the base model trains."""
    part = FAMILIES[family].part_of(name)
    if part.startswith("block"):
        top = int(part.split()[1]) >= LAYERS - max(unfrozen, 0)
        part = "top n blocks" if top or unfrozen == LAYERS else "bottom L − n blocks"
    return {"trains": True, "frozen": False}[TRAINS[part][column(unfrozen)]]


def snapshot(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def update(policy: Any, rows: Rows, steps: int = 2) -> None:
    """Every weight that can move moves: half of them by the loss's gradient, all by weight decay."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.03, weight_decay=0.1)
    for _ in range(steps):
        out = policy.response_pass(*rows.inputs())
        (out["logprobs"].square() * rows.response_mask).sum().add(out["values"].square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


@families
def test_every_model_has_what_the_table_says(family: str) -> None:
    model = random_model(family)
    parts = {FAMILIES[family].part_of(name) for name, _ in model.named_parameters()}
    row = HAS[next(label for label, name in NAMES.items() if name == family)]
    for part in ("learned positions", "entry", "encoder"):
        assert (part in parts) == bool(row[part]), part
    assert ("untied head" in parts) == (row["head"] == "untied")
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (row["head"] == "tied")
    assert ("final norm" in parts) == bool(row["after the blocks"])


def test_the_tables_are_complete() -> None:
    assert set(HAS) == set(NAMES) and set(NAMES.values()) == set(FAMILIES)
    assert all(set(row) == {"-1", "n", "L", "0"} for row in (*TRAINS.values(), *KEPT.values()))


@depths
@families
def test_exactly_the_documented_weights_train(family: str, unfrozen: int) -> None:
    policy, rows = hydra(family, unfrozen), ragged_rows()
    base, before = policy.base_model, snapshot(policy)
    expected = {name: documented(family, name, unfrozen) for name, _ in base.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in base.named_parameters()} == expected
    head = {"trains": True, "frozen": False}
    kind = "tied head" if FAMILIES[family].tied else "untied head"
    assert base.get_output_embeddings().weight.requires_grad == head[TRAINS[kind][column(unfrozen)]]
    assert all(parameter.requires_grad == head[TRAINS["critic"]["0"]] for parameter in policy.v_head.parameters())
    update(policy, rows)
    after = dict(policy.named_parameters())
    moved = {name for name, parameter in after.items() if not torch.equal(parameter, before[name])}
    heads = {name for name in after if name.startswith("v_head.")}
    assert moved == {f"base_model.{name}" for name, trains in expected.items() if trains} | heads


@depths
@families
def test_the_reference_is_the_initial_policy_and_stays_it(family: str, unfrozen: int) -> None:
    policy, initial, rows = hydra(family, unfrozen), random_model(family), ragged_rows()
    inputs = policy.layout.inputs(*rows.inputs())
    with torch.no_grad():
        expected = initial(**inputs).logits
        before = policy.response_pass(*rows.inputs(), temperature=0.7, with_reference=True)
    update(policy, rows)
    with torch.no_grad():
        after = policy.response_pass(*rows.inputs(), temperature=0.7, with_reference=True)
        logits = policy.forward_hydra(**inputs)
    real = rows.response_mask
    assert torch.equal(logits, expected)
    assert torch.equal(before["ref_logprobs"], before["logprobs"])
    assert torch.equal(after["ref_logprobs"][real], before["ref_logprobs"][real])
    moved = (after["logprobs"] - before["logprobs"])[real].abs().max().item()
    assert moved > 1e-2 if unfrozen else moved == 0.0


@depths
@families
def test_the_reference_copies_what_trains_and_shares_the_rest(family: str, unfrozen: int) -> None:
    policy = hydra(family, unfrozen)
    copied = {id(parameter) for parameter in policy.frozen_head.parameters()}
    assert not any(parameter.requires_grad for parameter in policy.frozen_head.parameters())
    own = {id(parameter) for parameter in policy.base_model.parameters()}
    assert not copied & own
    with policy.as_reference():
        for name, parameter in policy.base_model.named_parameters():
            swapped = id(parameter) in copied
            assert swapped == documented(family, name, unfrozen) and swapped != (id(parameter) in own), name
    assert {id(parameter) for parameter in policy.base_model.parameters()} == own


def test_more_layers_than_there_are() -> None:
    with pytest.raises(UserError, match=r"num_layers_unfrozen is 4 but the model has 3 layers"):
        hydra("gpt2", LAYERS + 1)


def test_a_model_without_blocks_is_refused() -> None:
    model = random_model("gpt2")
    model.config.n_layer = 7
    with pytest.raises(UserError, match="cannot find the 7 decoder blocks"):
        find_blocks(model)


def test_an_encoder_decoder_that_counts_pads_is_refused() -> None:
    sizes = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    config = BartConfig(vocab_size=9, encoder_attention_heads=1, decoder_attention_heads=1, **sizes)
    with pytest.raises(UserError, match="BartForConditionalGeneration is not supported: of the encoder-decoders T5 is"):
        find_blocks(AutoModelForSeq2SeqLM.from_config(config))


def kept_depth(cell: str, n: int, m: int) -> int:
    """How many blocks the kept output has behind it, from a cell such as "block L − max(n, m)"."""
    if cell == "nothing":
        return 0
    formula = cell.removeprefix("block ").replace("−", "-")
    assert re.fullmatch(r"[Lnm\-(), max]+", formula)
    return int(eval(formula, {"__builtins__": {}}, {"L": LAYERS, "n": n, "m": m, "max": max}))


def kept_by(policy: Any) -> int:
    """The block whose output a rollout keeps, counted from 1 and found by comparing; 0 for nothing."""
    rows, outputs = ragged_rows(), []
    blocks = find_blocks(policy.bare)
    handles = [
        block.register_forward_hook(
            lambda _, __, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        )
        for block in blocks
    ]
    with torch.no_grad():
        kept = policy.response_pass(*rows.inputs(), with_reference=True)["trunk"]
    for handle in handles:
        handle.remove()
    if kept is None:
        return 0
    assert policy.trunk.depth == 1 + next(i for i, output in enumerate(outputs) if torch.equal(output, kept))
    return int(policy.trunk.depth)


@depths
@families
def test_what_is_kept_with_a_value_head(family: str, unfrozen: int) -> None:
    row = HAS[next(label for label, name in NAMES.items() if name == family)]
    expected = kept_depth(KEPT["value head"][column(unfrozen)], unfrozen, 0) if row["trunk can be kept"] else 0
    assert kept_by(hydra(family, unfrozen)) == expected
    assert kept_by(hydra(family, unfrozen, cache_trunk=False)) == 0


@pytest.mark.parametrize("branch", [1, 2])
@pytest.mark.parametrize("unfrozen", [*DEPTHS, 1])
@pytest.mark.parametrize("family", ["gpt_neo", "opt_350m", "qwen2"])
def test_what_is_kept_with_a_value_branch(family: str, unfrozen: int, branch: int) -> None:
    cell = KEPT["value branch of m blocks"][column(unfrozen)]
    policy = hydra(family, unfrozen, num_value_layers_unfrozen=branch)
    assert kept_by(policy) == kept_depth(cell, unfrozen, branch)


def adapted(family: str, config: Any) -> Any:
    return AutoModelForCausalLMWithHydraValueHead.from_pretrained(
        random_model(family), peft_config=config, num_layers_unfrozen=1
    ).eval()


def adapter_configs() -> list[tuple[str, dict[str, Any]]]:
    """(row of the documentation, peft config); n = 1."""
    everywhere, top, virtual = ADAPTERS
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    return [
        (everywhere, lora),
        (everywhere, {"peft_type": "IA3", "target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}),
        (top, {**lora, "layers_to_transform": [LAYERS - 1]}),
        (virtual, {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}),
    ]


@pytest.mark.filterwarnings("ignore:Position ids are not supported", "ignore:.*is_gradient_checkpointing")
@pytest.mark.parametrize(("row", "config"), adapter_configs())
@pytest.mark.parametrize("family", ["gpt_neo", "llama", "opt"])
def test_adapters_alone_train_and_the_reference_is_without_them(family: str, row: str, config: dict[str, Any]) -> None:
    policy, rows = adapted(family, config), ragged_rows()
    assert policy.frozen_head is None
    trained = {name for name, parameter in policy.base_model.named_parameters() if parameter.requires_grad}
    assert trained and all(any(part in name for part in ("lora_", "ia3_", "prompt_encoder")) for name in trained)
    assert (0 if policy.trunk is None else policy.trunk.depth) == kept_depth(ADAPTERS[row]["kept"], 1, 0)
    inputs, before = policy.layout.inputs(*rows.inputs()), snapshot(policy)
    update(policy, rows)
    moved = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if name.startswith("base_model.")} == {f"base_model.{name}" for name in trained}
    with torch.no_grad():
        out = policy.response_pass(*rows.inputs(), with_reference=True)
        torch.testing.assert_close(
            policy.forward_hydra(**inputs), random_model(family)(**inputs).logits, atol=1e-6, rtol=0
        )
    assert (out["logprobs"] - out["ref_logprobs"])[rows.response_mask].abs().max().item() > 1e-2


def test_the_families_without_an_encoder() -> None:
    assert {label for label, row in HAS.items() if not row["encoder"]} == {k for k, v in NAMES.items() if v in CAUSAL}
