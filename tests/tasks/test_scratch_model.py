from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.scratch_model import ModelSize, attention_types, random_gpt_neo, save_base, train_tokenizer
from trlx.utils.errors import UserError

TEXTS = ["SUBREDDIT: r/pets\nTITLE: My cat\nPOST: My sister lost the cat.\nTL;DR: The cat is lost."] * 3
SIZE = ModelSize(vocab_size=330, layers=3, hidden=32, heads=2, window=8, max_positions=64)


def test_the_tokenizer_writes_any_text_and_back() -> None:
    tokenizer = train_tokenizer(TEXTS, 330, 64)
    for text in (TEXTS[0], "é日🐈 \t\n  x", " leading"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text and tokenizer.eos_token_id not in ids
    assert tokenizer("<|endoftext|>")["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer(" My sister")["input_ids"] == tokenizer(" My")["input_ids"] + tokenizer(" sister")["input_ids"]


@pytest.mark.parametrize(
    "layers, expected", [(1, ["global"]), (2, ["global", "local"]), (3, ["global", "local", "global"])]
)
def test_layers_alternate(layers: int, expected: list[str]) -> None:
    assert [kind for kinds, count in attention_types(layers) for _ in range(count) for kind in kinds] == expected


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    save_base(tmp_path / "base", TEXTS, SIZE, seed=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    config = model.config
    assert config.attention_layers == ["global", "local", "global"] and config.vocab_size == len(tokenizer)
    assert config.resid_dropout == config.embed_dropout == config.attention_dropout == 0
    assert tokenizer.padding_side == "left" and tokenizer.pad_token_id == tokenizer.eos_token_id
    assert json.loads((tmp_path / "base" / "config.json").read_text())["window_size"] == 8
    again = random_gpt_neo(tokenizer, SIZE, seed=1)
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert not torch.equal(model(ids).logits, random_gpt_neo(tokenizer, SIZE, seed=2)(ids).logits)


def test_the_fast_activation_is_gelu_new() -> None:
    from transformers.activations import ACT2FN

    values = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(ACT2FN["gelu_pytorch_tanh"](values), ACT2FN["gelu_new"](values), atol=1e-6, rtol=0)


def test_heads_must_divide_hidden() -> None:
    tokenizer = train_tokenizer(TEXTS, 300, 64)
    with pytest.raises(UserError, match="hidden 32 is not a multiple of heads 3"):
        random_gpt_neo(tokenizer, ModelSize(hidden=32, heads=3), seed=0)
