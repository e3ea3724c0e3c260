"""Loading: dropout off, dtype as asked, one line when there is nothing to load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    PreTrainedTokenizerFast,
)

from trlx.utils import pretrained
from trlx.utils.errors import UserError
from trlx.utils.pretrained import (
    load_config,
    load_model,
    load_tokenizer,
    meta_model,
    require_own_tokenizer,
    require_vocabulary,
    require_whole,
    without_dropout,
)


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two blocks and 40 tokens with its tokenizer."""
    folder = tmp_path_factory.mktemp("whole")
    words = {f"w{number}": number for number in range(39)} | {"<end>": 39}
    core = Tokenizer(WordLevel(words, unk_token="<end>"))
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
    kind = [[["global"], 2]]
    sizes = {"hidden_size": 8, "num_layers": 2, "num_heads": 1, "attention_types": kind}
    GPTNeoForCausalLM(GPTNeoConfig(vocab_size=40, bos_token_id=39, eos_token_id=39, **sizes)).save_pretrained(folder)
    return folder


def load_causal(path: Path) -> Any:
    return load_model(AutoModelForCausalLM, path)


@pytest.mark.parametrize("load", [load_tokenizer, load_causal])
def test_nothing_to_load_is_one_line(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    with pytest.raises(UserError, match="no such folder") as absent:
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="no finished model") as empty:
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        load(tmp_path / "file")
    with pytest.raises(UserError, match="no model is named"):
        load("")  # type: ignore[arg-type]
    assert "\n" not in str(absent.value) + str(empty.value)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def set_key(path: Path, key: str, value: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


DAMAGES: list[tuple[Callable[[Path], Any], Callable[[Path], object], str]] = [
    (load_causal, lambda f: cut_short(f / "model.safetensors"), "model.safetensors: damaged or cut short"),
    (load_causal, lambda f: (f / "model.safetensors").write_text(""), "model.safetensors: damaged or cut short"),
    (load_causal, lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
    (load_causal, lambda f: (f / "config.json").write_text('{\n"a": }'), r"config.json, line 2: not JSON"),
    (load_causal, lambda f: (f / "config.json").write_text("[1]"), "config.json: holds no JSON object"),
    (load_causal, lambda f: (f / "config.json").write_bytes(b'{"a": "\xff"}'), "config.json: not UTF-8"),
    (load_causal, lambda f: (f / "config.json").write_text("{}"), "model_type"),
    (load_causal, lambda f: set_key(f / "config.json", "hidden_size", 16), "other sizes than config.json says"),
    (load_causal, lambda f: set_key(f / "config.json", "num_heads", 3), "num_heads"),
    (load_tokenizer, lambda f: (f / "tokenizer.json").write_text("garbage"), "tokenizer.json, line 1: not JSON"),
    (load_tokenizer, lambda f: (f / "tokenizer.json").write_text("{}"), "its tokenizer cannot be loaded"),
    (load_tokenizer, lambda f: (f / "tokenizer.json").unlink(), "its tokenizer cannot be loaded"),
    (load_tokenizer, lambda f: set_key(f / "config.json", "num_layers", 3), "its config.json cannot be loaded"),
    (load_tokenizer, lambda f: set_key(f / "tokenizer_config.json", "eos_token", None), "has no EOS token"),
]


@pytest.mark.parametrize(("load", "damage", "words"), DAMAGES, ids=[f"{i}-{row[2]}" for i, row in enumerate(DAMAGES)])
def test_a_damaged_folder_is_one_line_that_names_the_file(
    whole: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    load: Callable[[Path], Any],
    damage: Callable[[Path], object],
    words: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    load(folder)
    damage(folder)
    with pytest.raises(UserError, match=words) as refused:
        load(folder)
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)
    assert capfd.readouterr().err == ""  # no bars, no table of weights


def test_other_files_in_the_folder_are_nobodys_business(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "model")
    for name in ("modules.json", "notes.json"):
        (folder / name).write_text("[1]")
    assert pretrained.damaged_file(folder) is None
    (folder / "vocab.json").write_text("[1]")
    assert pretrained.damaged_file(folder) == f"{folder}/vocab.json: holds no JSON object"


def test_weights_that_are_missing_are_counted(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "model")
    weights = load_file(whole / "model.safetensors")
    lost = [name for name in weights if name.startswith("transformer.h.1.ln_1")]
    save_file({n: w for n, w in weights.items() if n not in lost}, tmp_path / "model" / "model.safetensors")
    _, missing = load_causal(tmp_path / "model")
    assert missing == set(lost) and len(lost) == 2
    with pytest.raises(UserError, match="2 weights are missing"):
        require_whole(missing, "model")
    require_whole(set(), "model")


def test_no_hub_and_no_folder_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "settle_offline", lambda: True)
    with pytest.raises(UserError, match=r"hub cannot be reached.*\(--reward_model FOLDER\)") as refused:
        load_tokenizer("nobody/nothing", named_by="--reward_model")
    assert str(refused.value).startswith("nobody/nothing: no such folder here")


def test_a_vocabulary_must_fit_the_embeddings(whole: Path) -> None:
    tokenizer, config = load_tokenizer(whole), load_config(whole)
    require_vocabulary(config, tokenizer, whole)  # ids 0 to 39, 40 rows
    config.vocab_size = 39
    with pytest.raises(UserError, match=r"ids up to 39 but the model embeds only 39"):
        require_vocabulary(config, tokenizer, whole)


def test_a_tokenizer_must_be_the_models_own(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    file = json.loads((other / "tokenizer.json").read_text())
    words = file["model"]["vocab"]
    words["w3"], words["w4"] = words["w4"], words["w3"]
    (other / "tokenizer.json").write_text(json.dumps(file))
    same, swapped = load_tokenizer(whole), load_tokenizer(other)
    require_own_tokenizer(whole, same, whole)
    require_own_tokenizer(other, swapped, other)
    require_own_tokenizer(whole, same, "somewhere/else")
    require_own_tokenizer(tmp_path, swapped, other)  # no tokenizer beside the model: nothing to compare with
    with pytest.raises(UserError, match=r"2 of 40 tokens have other ids"):
        require_own_tokenizer(whole, swapped, other)


def test_a_model_without_weights_has_its_shapes(whole: Path) -> None:
    model, real = meta_model(whole), GPTNeoForCausalLM.from_pretrained(whole)
    assert {w.device.type for w in model.parameters()} == {"meta"}
    assert sum(w.numel() for w in model.parameters()) == sum(w.numel() for w in real.parameters())
