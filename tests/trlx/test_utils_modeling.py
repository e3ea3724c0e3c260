"""Statistics, dictionaries, and the parts of models of every family."""

import json
import math
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import transformers
from accelerate import init_empty_weights
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import LAYERS, VOCAB, family_config
from torch import Tensor

from trlx.utils.blocks import modules_before_blocks
from trlx.utils.errors import UserError
from trlx.utils.modeling import (
    RunningMoments,
    flatten_dict,
    freeze_bottom_causal_layers,
    freeze_bottom_seq2seq_layers,
    gather_dict,
    get_global_statistics,
    get_tensor_stats,
    hf_get_decoder,
    hf_get_decoder_blocks,
    hf_get_decoder_final_norm,
    hf_get_hidden_size,
    hf_get_lm_head,
    hf_get_num_hidden_layers,
    logprobs_of_labels,
    make_head,
    whiten,
)

HIDDEN = 32
COMMON = {"vocab_size": VOCAB, "hidden_size": HIDDEN, "num_attention_heads": 4, "max_position_embeddings": 64}
STACK = {**COMMON, "num_hidden_layers": LAYERS, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
CAUSAL: dict[str, Callable[[], Any]] = {
    "gpt_neo": lambda: family_config("gpt_neo"),
    "gpt2": lambda: family_config("gpt2"),
    "opt": lambda: family_config("opt"),
    "llama": lambda: family_config("llama"),
    "gptj": lambda: transformers.GPTJConfig(
        vocab_size=VOCAB, n_embd=HIDDEN, n_layer=LAYERS, n_head=4, rotary_dim=4, n_positions=64
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**COMMON, num_hidden_layers=LAYERS, intermediate_size=64),
    "bloom": lambda: transformers.BloomConfig(vocab_size=VOCAB, hidden_size=HIDDEN, n_layer=LAYERS, n_head=4),
    "mistral": lambda: transformers.MistralConfig(**STACK),
    "qwen2": lambda: transformers.Qwen2Config(**STACK),
    "qwen3": lambda: transformers.Qwen3Config(**STACK),
}


def causal(family: str) -> Any:
    return transformers.AutoModelForCausalLM.from_config(CAUSAL[family]())


def t5(encoder: int = 3, decoder: int = 2) -> Any:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=64,
            d_model=HIDDEN,
            d_ff=48,
            d_kv=8,
            num_heads=4,
            num_layers=encoder,
            num_decoder_layers=decoder,
            decoder_start_token_id=0,
        )
    )


@pytest.mark.parametrize("family", CAUSAL)
def test_parts_of_causal_models(family: str) -> None:
    model = causal(family)
    blocks = hf_get_decoder_blocks(model)
    assert len(blocks) == hf_get_num_hidden_layers(model.config) == LAYERS
    assert hf_get_hidden_size(model.config) == HIDDEN
    assert hf_get_lm_head(model) is model.get_output_embeddings()
    decoder = hf_get_decoder(model)
    inside = {id(module) for module in decoder.modules()}
    assert id(blocks) in inside and id(hf_get_lm_head(model)) not in inside
    assert hf_get_decoder(decoder) is decoder and hf_get_decoder_blocks(decoder) is blocks
    # The norm is the one whose output enters the head.
    seen: dict[str, Any] = {}
    hf_get_decoder_final_norm(model).register_forward_hook(lambda _, __, output: seen.update(norm=output))
    hf_get_lm_head(model).register_forward_pre_hook(lambda _, inputs: seen.update(head=inputs[0]))
    model(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert torch.equal(seen["norm"], seen["head"])


def test_parts_of_an_encoder_decoder() -> None:
    model = t5(encoder=3, decoder=2)
    assert hf_get_decoder(model) is model.decoder
    assert hf_get_decoder_blocks(model) is model.decoder.block
    assert hf_get_decoder_final_norm(model) is model.decoder.final_layer_norm
    assert hf_get_lm_head(model) is model.lm_head
    assert (hf_get_num_hidden_layers(model.config), hf_get_hidden_size(model.config)) == (2, HIDDEN)
    same = t5(encoder=2, decoder=2)  # equally many blocks on both sides
    assert hf_get_decoder_blocks(same) is same.decoder.block


def test_models_without_weights_have_parts_too() -> None:
    with init_empty_weights():
        model = causal("gptj")
    assert len(hf_get_decoder_blocks(model)) == LAYERS
    assert hf_get_decoder_final_norm(model).weight.device.type == "meta"


def test_missing_parts_are_said() -> None:
    model = causal("opt")
    with pytest.raises(UserError, match="OPTModel has no language-model head"):
        hf_get_lm_head(model.model)
    del model.model.decoder.final_layer_norm
    with pytest.raises(UserError, match="OPTForCausalLM has no final norm"):
        hf_get_decoder_final_norm(model)
    for get, name in ((hf_get_num_hidden_layers, "num_hidden_layers"), (hf_get_hidden_size, "hidden_size")):
        with pytest.raises(UserError, match=f"PreTrainedConfig has no.*{name}"):
            get(transformers.PreTrainedConfig())
    with pytest.raises(UserError, match="BartConfig is not supported: of the encoder-decoders T5 is"):
        hf_get_num_hidden_layers(transformers.BartConfig())


def trains(module: Any) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_freezing_from_below(family: str) -> None:
    for unfrozen in (-1, 0, 1, LAYERS):
        model = causal(family)
        freeze_bottom_causal_layers(model, unfrozen)
        top = LAYERS if unfrozen < 0 else unfrozen
        assert [trains(block) for block in hf_get_decoder_blocks(model)] == [False] * (LAYERS - top) + [True] * top
        assert trains(model.get_input_embeddings()) == (unfrozen < 0)
        tied = family == "gpt2"
        assert trains(hf_get_lm_head(model)) == (unfrozen < 0 or (unfrozen > 0 and not tied))
        assert trains(hf_get_decoder_final_norm(model)) == (unfrozen != 0)
    model = causal("gpt2")
    freeze_bottom_causal_layers(model)  # 0 is the default
    assert not trains(model)
    with pytest.raises(UserError, match=rf"num_layers_unfrozen is {LAYERS + 1} but the model has {LAYERS} layers"):
        freeze_bottom_causal_layers(model, LAYERS + 1)


def test_freezing_never_unfreezes() -> None:
    model = causal("gpt2")
    model.lm_head.requires_grad_(False)
    hf_get_decoder_blocks(model)[-1].requires_grad_(False)
    freeze_bottom_causal_layers(model, 2)
    assert [trains(block) for block in hf_get_decoder_blocks(model)] == [False, False, True, False]


def test_learned_positions_freeze_with_the_bottom() -> None:
    model = causal("gpt2")
    before = modules_before_blocks(model, hf_get_decoder_blocks(model))
    assert before == {model.transformer.wte, model.transformer.wpe}
    freeze_bottom_causal_layers(model, 1)
    assert not trains(model.transformer.wpe)


def test_freezing_an_encoder_decoder() -> None:
    model = t5(encoder=3, decoder=2)
    freeze_bottom_seq2seq_layers(model, 1)
    assert not trains(model.encoder) and not trains(model.shared)
    assert [trains(block) for block in model.decoder.block] == [False, True]
    assert trains(model.decoder.final_layer_norm)
    free = t5()
    freeze_bottom_seq2seq_layers(free, -1)
    assert all(parameter.requires_grad for parameter in free.parameters())
    freeze_bottom_seq2seq_layers(free, 0)
    assert not trains(free)


def test_the_head() -> None:
    head = make_head(4, 3, torch.bfloat16)
    assert [tuple(parameter.shape) for parameter in head.parameters()] == [(8, 4), (8,), (3, 8), (3,)]
    assert {parameter.dtype for parameter in head.parameters()} == {torch.bfloat16}
    assert head(torch.ones(2, 4, dtype=torch.bfloat16)).shape == (2, 3)


def test_logprobs_golden() -> None:
    # softmax(0, ln 3) = (1/4, 3/4); softmax(0, 0) = (1/2, 1/2)
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0]]])
    expected = [math.log(0.75), math.log(0.5)]
    assert logprobs_of_labels(logits, torch.tensor([[1, 0]])).tolist()[0] == pytest.approx(expected, abs=1e-6)


def test_whiten_golden() -> None:
    # mean 3; unbiased variance (4 + 1 + 9) / 2 = 7, so (−2, −1, 3) / √7
    xs = torch.tensor([1.0, 2.0, 6.0])
    expected = [-0.7559289, -0.3779645, 1.1338934]
    assert whiten(xs).tolist() == pytest.approx(expected, abs=1e-6)
    assert whiten(xs, shift_mean=False).tolist() == pytest.approx([x + 3.0 for x in expected], abs=1e-6)
    assert whiten(torch.tensor([5.0])).tolist() == [0.0]
    assert whiten(torch.full((2, 3), 5.0)).abs().max() == 0.0


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20))
def test_global_statistics_equal_torch(values: list[float]) -> None:
    xs = torch.tensor(values, dtype=torch.float64)
    mean, variance, count = get_global_statistics(xs)
    assert float(count) == len(values)
    assert torch.allclose(mean, xs.mean(), atol=1e-9)
    assert torch.allclose(variance, xs.var(unbiased=False), rtol=1e-6, atol=1e-9)


def test_tensor_stats_golden() -> None:
    xs = torch.tensor([[1.0, 2.0], [6.0, float("nan")]])
    stats = get_tensor_stats(xs, torch.tensor([[1, 1], [1, 0]]), 3)
    # mean 9/3; squared distances 4 + 1 + 9 = 14, over 3: √(14/3)
    assert {name: float(value) for name, value in stats.items()} == pytest.approx(
        {"mean": 3.0, "min": 1.0, "max": 6.0, "std": 2.1602469}
    )
    for empty in (get_tensor_stats(xs, torch.zeros(2, 2), 0), get_tensor_stats(torch.ones(0), torch.ones(0), 0)):
        assert [float(empty[name]) for name in ("mean", "min", "max", "std")] == [0.0] * 4


def test_running_moments_of_batches() -> None:
    moments = RunningMoments()
    assert (float(moments.mean), float(moments.std), float(moments.var), moments.count) == (0.0, 1.0, 1.0, 0)
    first, second = torch.arange(100, dtype=torch.float64), torch.ones(100, dtype=torch.float64)
    for batch in (first, second):
        mean, std = moments.update(batch)
        assert torch.isclose(mean, batch.mean()) and torch.isclose(std, batch.std(), atol=1e-9)
    both = torch.cat([first, second])
    assert torch.isclose(moments.mean, both.mean()) and torch.isclose(moments.std, both.std())
    assert torch.isclose(moments.var, both.var(unbiased=False)) and moments.count == 200
    assert moments.update(torch.ones(2, 3))[0].dtype == moments.mean.dtype == torch.float32


def test_moments_of_one_score_and_of_none() -> None:
    moments = RunningMoments()
    assert [float(value) for value in moments.update(torch.tensor([5.0]))] == [5.0, 0.0]
    assert float(moments.std) == 1.0
    moments.update(torch.zeros(0))
    assert moments.count == 1


def test_dictionaries() -> None:
    assert flatten_dict({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a/b/c": 1, "a/d": 2, "e": 3}
    assert flatten_dict({"a": {"b": 1}}, parent_key="top", sep=".") == {"top.a.b": 1}
    given_rows = {"x": [1, 2]}
    gathered = gather_dict(given_rows)
    assert gathered == given_rows and gathered["x"] is not given_rows["x"]


def on_two_ranks(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    own: Tensor = torch.tensor([[1.0, 2.0], [6.0, 7.0, 9.0]][rank])
    moments = RunningMoments()
    batch = [float(value) for value in moments.update(own)]
    state = type("State", (), {"end_of_dataloader": True, "remainder": 3})()
    results = {
        "statistics": [float(value) for value in get_global_statistics(own)],
        "whitened": whiten(own).tolist(),
        "alone": whiten(own, distributed=False).tolist(),
        "batch": batch,
        "moments": (moments.count, float(moments.mean), float(moments.std)),
        "gathered": gather_dict({"x": [rank, rank]}),
        "cut": gather_dict({"x": [rank, rank]}, state),
    }
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


def test_two_ranks_count_as_one(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    # Forked: a spawned process would import everything again.
    mp.start_processes(on_two_ranks, args=(port, tmp_path), nprocs=2, start_method="fork")
    # 1 2 6 7 9: mean 5, squared distances 16 + 9 + 1 + 4 + 16 = 46
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["statistics"] == second["statistics"] == pytest.approx([5.0, 9.2, 5.0])
    assert first["batch"] == second["batch"] == pytest.approx([5.0, math.sqrt(11.5)])
    assert first["moments"] == pytest.approx([5, 5.0, math.sqrt(11.5)])
    together = whiten(torch.tensor([1.0, 2.0, 6.0, 7.0, 9.0])).tolist()
    assert first["whitened"] + second["whitened"] == pytest.approx(together)
    assert first["alone"] == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])
    assert first["gathered"] == second["gathered"] == {"x": [0, 0, 1, 1]}
    assert first["cut"] == {"x": [0, 0, 1]}
