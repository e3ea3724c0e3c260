"""peft adapters in training: the reference is the base model, they alone train, the export is a plain model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import ppo_config, random_model
from tiny_runs import logged, make_trainer, moved, run, run_until, weights
from transformers import AutoModelForCausalLM

from trlx.utils.errors import UserError

pytest.importorskip("peft", reason="adapters need peft")

LORA = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}
TOP = {**LORA, "layers_to_transform": [3]}
IA3 = {"peft_type": "IA3", "target_modules": ["k_proj", "v_proj", "c_proj"], "feedforward_modules": ["c_proj"]}
PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}


def adapted(
    folder: Path, tokenizer_folder: str, peft_config: dict[str, Any], family: str = "gpt_neo", **overrides: Any
) -> Any:
    """The configuration; the base model is written to a folder, as adapters are loaded beside it."""
    base = folder.parent / "base"
    if not base.exists():
        random_model(family, seed=3).save_pretrained(base)
    given = {"train__epochs": 1, "optimizer__kwargs__lr": 1e-2, **overrides}
    return ppo_config(folder, tokenizer_folder, model__model_path=str(base), model__peft_config=peft_config, **given)


@pytest.mark.parametrize("peft_config", [LORA, TOP, IA3, PROMPT], ids=["lora", "top", "ia3", "prompt"])
@pytest.mark.filterwarnings("ignore:policy and reference differ")  # virtual tokens are something from the start
def test_a_run(tmp_path: Path, tokenizer_folder: str, peft_config: dict[str, Any]) -> None:
    # Pads lie between virtual tokens and prompt: GPT-Neo's local attention, which counts places, does mind them.
    family = "gpt2" if peft_config is PROMPT else "gpt_neo"
    config = adapted(tmp_path / "run", tokenizer_folder, peft_config, family)
    before = weights(make_trainer(config))
    prompt = peft_config is PROMPT
    trainer = run(config)
    assert trainer.iter_count == 4
    assert logged(trainer, "ratio")[0] == pytest.approx(1.0, abs=1e-5)
    if not prompt:
        assert abs(logged(trainer, "policy/kl")[0]) <= 1e-5
    # only the adapters and the head have moved
    marks = {"LORA": "lora_", "IA3": "ia3_", "PROMPT_TUNING": "prompt_"}
    changed = moved(before, trainer)
    assert all(marks[peft_config["peft_type"]] in name or name.startswith("v_head.") for name in changed), changed
    assert any(marks[peft_config["peft_type"]] in name for name in changed)
    assert any(name.startswith("v_head.") for name in changed)
    assert (trainer.unwrapped_model.trunk is not None) == (peft_config is TOP)
    if peft_config is TOP:
        assert trainer.unwrapped_model.trunk.depth == 3
    ids = torch.randint(1, 257, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # the reference is the base model, after updates too
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")(ids).logits
        reference, policy = trainer.ref_model(ids).logits, trainer.policy.eval()(ids).logits[:, -12:]
        torch.testing.assert_close(reference, base, atol=1e-5, rtol=1e-5)
        assert (policy - base).abs().max() > 1e-3
        # the export is a plain model: the trained policy, or the base where adapters cannot be merged
        (folder,) = (tmp_path / "run").glob("checkpoint_*/hf_model")
        model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        torch.testing.assert_close(model(ids).logits, base if prompt else policy, atol=1e-5, rtol=1e-5)
        assert (folder / "adapter" / "adapter_config.json").exists() and (folder / "heads.safetensors").exists()
    if prompt:
        import peft

        with torch.no_grad():
            joined = peft.PeftModel.from_pretrained(model, folder / "adapter")
            torch.testing.assert_close(joined(ids).logits[:, -12:], policy, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING"])
def test_virtual_tokens_do_not_mind_padding(tmp_path: Path, tokenizer_folder: str, kind: str) -> None:
    """peft drops position ids when there are some, and a row's logits would depend on the pads before it."""
    config = adapted(tmp_path / "run", tokenizer_folder, {**PROMPT, "peft_type": kind}, "gpt2")
    model = make_trainer(config).unwrapped_model.eval()
    ids = torch.randint(1, 257, (1, 9), generator=torch.Generator().manual_seed(0))
    padded, mask = torch.nn.functional.pad(ids, (3, 0)), torch.tensor([[0] * 3 + [1] * 9])
    with torch.no_grad():
        alone, beside = model(ids, mask[:, 3:]).logits[:, -9:], model(padded, mask).logits[:, -9:]
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=1e-5)


def test_adapters_of_the_top_only_do_not_need_the_trunk_kept(tmp_path: Path, tokenizer_folder: str) -> None:
    kept = run(adapted(tmp_path / "kept", tokenizer_folder, TOP))
    run_whole = run(adapted(tmp_path / "whole", tokenizer_folder, TOP, method__cache_trunk=False))
    assert kept.unwrapped_model.trunk is not None and run_whole.unwrapped_model.trunk is None
    for name, value in weights(kept).items():
        torch.testing.assert_close(weights(run_whole)[name], value, atol=2e-4, rtol=0, msg=name)


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, tokenizer_folder: str) -> None:
    def config(name: str, **more: Any) -> Any:
        given = {"train__epochs": 2, "train__resume_interval": 3, **more}
        return adapted(tmp_path / name, tokenizer_folder, LORA, **given)

    whole = run(config("whole"))
    run_until(4, config("cut"))
    resumed = run(config("cut", train__resume_from_checkpoint="auto"))
    assert whole.iter_count == resumed.iter_count == 8
    assert moved(weights(whole), resumed) == set()


def test_num_layers_unfrozen_is_said_to_have_no_effect(tmp_path: Path, tokenizer_folder: str) -> None:
    with pytest.warns(UserWarning, match="num_layers_unfrozen has no effect with peft_config"):
        make_trainer(adapted(tmp_path / "run", tokenizer_folder, LORA, model__num_layers_unfrozen=2))


def test_an_adapter_of_a_tied_head_is_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["lm_head", "q_proj"]}
    with pytest.raises(UserError, match="tied to the input embeddings"):
        run(ppo_config(tmp_path, tokenizer_folder, model__peft_config=lora))
