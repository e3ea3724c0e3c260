"""Loading: dropout off, dtype as asked, one line when there is nothing to load."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoConfig, GPTNeoForCausalLM

from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_model, load_tokenizer, without_dropout


def test_every_dropout_is_off_and_nothing_else_changes() -> None:
    config = without_dropout(GPT2Config(resid_pdrop=0.2, embd_pdrop=0.2, attn_pdrop=0.2, layer_norm_epsilon=0.3))
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.0, 0.0, 0.0)
    assert config.layer_norm_epsilon == 0.3
    assert without_dropout(GPTNeoConfig(attention_dropout=0.1)).attention_dropout == 0.0


def test_dtype_is_the_one_asked_for_not_the_one_saved(tmp_path: Path) -> None:
    kind = [[["global"], 1]]
    config = GPTNeoConfig(vocab_size=8, hidden_size=8, num_layers=1, num_heads=1, attention_types=kind)
    GPTNeoForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    model, missing = load_model(AutoModelForCausalLM, tmp_path)
    assert model.dtype == torch.float32 and not missing


@pytest.mark.parametrize("load", [load_tokenizer, lambda path: load_model(AutoModelForCausalLM, path)])
def test_nothing_to_load_is_one_line(tmp_path: Path, load) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="no such folder") as absent:
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="no finished model"):
        load(tmp_path)
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match="cannot be loaded") as broken:
        load(tmp_path)
    assert "\n" not in str(absent.value) + str(broken.value)
