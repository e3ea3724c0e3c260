"""Models taken apart: sizes that are published or worked by hand, every family's parts adding up to its whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    FalconConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    T5Config,
)

from launch.describe.anatomy import Blocks, Step, alike, anatomy
from launch.describe.command import main
from launch.describe.facts import facts
from launch.published import published_config
from trlx.utils.errors import UserError

TINY = {"vocab_size": 101, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
GATED = {**TINY, "intermediate_size": 96}
FAMILIES: dict[str, tuple[Any, bool]] = {  # config, whether its feed-forward part is gated
    "gpt2": (GPT2Config(vocab_size=101, n_embd=32, n_layer=3, n_head=4), False),
    "gpt_neox": (GPTNeoXConfig(**GATED), False),
    "llama": (LlamaConfig(**GATED, num_key_value_heads=2), True),
    "qwen2": (Qwen2Config(**GATED, num_key_value_heads=4), True),
    "phi3": (Phi3Config(**GATED, num_key_value_heads=4, pad_token_id=0), True),  # gate and up in one matrix
    "falcon": (FalconConfig(**TINY), False),
    **{name: (published_config(name), False) for name in ("facebook/opt-350m", "EleutherAI/gpt-neo-125M")},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_of_every_family_add_up_and_tell_a_gate(name: str) -> None:
    config, gated = FAMILIES[name]
    found = anatomy(config)
    assert found.counted == found.numbers > 0
    assert sum(blocks.count for blocks in found.blocks) == config.num_hidden_layers
    assert len(found.blocks) == 1
    told = " ".join(facts(config, found))
    assert ("a GLU" in told) is gated
    assert ("no GLU" in told) is not gated


def test_opt_350m_golden() -> None:
    """Meta's 331 million: words of 512 numbers in a stream of 1,024, and norms after the sums."""
    found = anatomy(published_config("facebook/opt-350m"))
    assert found.numbers == 331_196_416
    # 4 · (1024² + 1024) attention, 1024·4096 + 4096 and 4096·1024 + 1024 feed-forward, 2 · 2·1024 norms
    assert found.blocks[0].numbers == 12_596_224
    names = [step.name for step in found.blocks[0].steps]
    assert names[3:5] == ["self_attn.out_proj", "self_attn_layer_norm"]
    assert names[-2:] == ["fc2", "final_layer_norm"]
    assert [step.name for step in found.before] == [
        *("model.decoder.embed_tokens", "model.decoder.embed_positions", "model.decoder.project_in")
    ]
    assert found.after[-1].tied == "model.decoder.embed_tokens" and found.after[-1].numbers == 0


@pytest.mark.parametrize(
    ("name", "numbers"), [("EleutherAI/gpt-neo-125M", 125_198_592), ("EleutherAI/gpt-neo-1.3B", 1_315_575_808)]
)
def test_gpt_neo_golden(name: str, numbers: int) -> None:
    config = published_config(name)
    found = anatomy(config)
    assert found.numbers == numbers
    told = " ".join(facts(config, found))
    assert "pre-norm" in told and "global and local (256 tokens back) in turn" in told
    assert found.blocks[0].steps[0].name == "ln_1"


def test_post_norm_and_shared_keys_are_told() -> None:
    opt = published_config("facebook/opt-350m")
    assert "post-norm" in " ".join(facts(opt, anatomy(opt)))
    llama = FAMILIES["llama"][0]
    assert "groups of 2" in " ".join(facts(llama, anatomy(llama)))


def test_the_command_prints_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    main(["EleutherAI/gpt-neo-125m", "--json", str(file)])
    printed = capsys.readouterr().out
    assert "blocks 0 to 11: 12 like this" in printed and "125,198,592" in printed and "as transformer.wte" in printed
    written = json.loads(file.read_text())
    assert written["numbers"] == 125_198_592 and written["blocks"][0]["count"] == 12
    main(["--model", "EleutherAI/gpt-neo-125M", "--blocks", "all"])
    assert "block 11" in capsys.readouterr().out


def test_a_folder_with_a_config_and_nothing_else_is_enough(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    FAMILIES["llama"][0].save_pretrained(tmp_path)
    main([str(tmp_path)])
    assert "LlamaForCausalLM" in capsys.readouterr().out


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a model is needed"):
        main([])
    with pytest.raises(UserError, match=r"nobody/knows.*sizes known without a hub.*opt-350m"):
        main(["nobody/knows"])
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="encoder-decoder: give a causal model"):
        main([str(tmp_path)])


def test_blocks_that_differ_stand_apart() -> None:
    def step(name: str, width: int) -> Step:
        return Step(name, "Linear", (("weight", (width, 4)),), "", width)

    steps = {one.name: one for one in (step("h.0.up", 8), step("h.1.up", 8), step("h.2.up", 16), step("head", 9))}
    assert alike("h", 3, steps) == [Blocks(0, 2, (step("up", 8),)), Blocks(2, 1, (step("up", 16),))]
