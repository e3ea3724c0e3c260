"""Our decoding loop against transformers' `generate`, against single rows, and against plain forward passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_engine import EOS, VOCAB, family_config, random_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    DynamicCache,
    GPTJConfig,
    GPTNeoXConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionLayer

from trlx.functional.logprobs import logprobs_of_tokens
from trlx.functional.masking import position_ids
from trlx.functional.padding import left_pad
from trlx.generation import decoding, sampling
from trlx.generation.cache import GrowingLayer, growing_cache, grows_in_place, rows_can_leave
from trlx.generation.decoding import suits
from trlx.generation.sampling import generate
from trlx.utils.errors import UserError

PAD = 3
ENDS = {"eos_token_id": [EOS, *range(100, 125)]}  # many, so that rows end at different steps
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30], [40, 41, 42, 43, 44], [50] * 7, [60, 61, 62]]
COMMON = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
LLAMA_LIKE = {**COMMON, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 64}
FAMILIES = ("gpt_neo", "gpt2", "llama", "opt", "mistral", "qwen2", "qwen3", "gpt_neox", "gptj", "bloom")


def config(family: str) -> Any:
    """The window of 4 is smaller than every sequence; Qwen 2 has it in its upper layers only."""
    ends = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": PAD}
    if family == "mistral":
        return MistralConfig(**LLAMA_LIKE, sliding_window=4, **ends)
    if family == "qwen2":
        return Qwen2Config(**LLAMA_LIKE, use_sliding_window=True, sliding_window=4, max_window_layers=2, **ends)
    if family == "qwen3":
        return Qwen3Config(**LLAMA_LIKE, head_dim=8, **ends)
    if family == "gpt_neox":
        return GPTNeoXConfig(**COMMON, intermediate_size=64, max_position_embeddings=64, **ends)
    if family == "gptj":
        return GPTJConfig(vocab_size=VOCAB, n_embd=32, n_layer=4, n_head=4, n_positions=64, rotary_dim=4, **ends)
    if family == "bloom":
        return BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=4, n_head=4, **ends)
    return family_config(family)


def family_model(family: str = "llama") -> PreTrainedModel:
    """Random weights, larger than transformers' own initialisation."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(family), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def same(one: Any, other: Any) -> None:
    assert one.response.tolist() == other.response.tolist()
    assert one.response_mask.tolist() == other.response_mask.tolist()
    assert one.ended.tolist() == other.ended.tolist()
    if one.logprobs is not None:
        mask = one.response_mask
        torch.testing.assert_close(one.logprobs[mask], other.logprobs[mask], atol=1e-5, rtol=0)


def by_transformers(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "suits", lambda model, gen_kwargs: False)
        return generate(*arguments, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged prompts, rows that leave, windows smaller than the sequence."""
    model = family_model(family)
    ids, mask = left_pad(PROMPTS * 2, PAD)
    ids[len(PROMPTS) :] = torch.where(mask[len(PROMPTS) :] == 1, ids[len(PROMPTS) :] + 100, PAD)
    gen_kwargs = {"max_new_tokens": 20, **ENDS}
    assert suits(model, gen_kwargs)
    own = generate(model, ids, mask, gen_kwargs, EOS, PAD, with_logprobs=True)
    same(own, by_transformers(monkeypatch, model, ids, mask, gen_kwargs, EOS, PAD, with_logprobs=True))


def test_rows_do_end_at_different_steps() -> None:
    """Or the tests above and below would not see rows leave."""
    ids, mask = left_pad(PROMPTS * 4, PAD)
    torch.manual_seed(0)
    made = generate(family_model(), ids, mask, {"max_new_tokens": 20, "do_sample": True, **ENDS}, EOS, PAD)
    lengths = made.response_mask.sum(dim=1)
    assert len(set(lengths.tolist())) > 5 and not made.ended.all()


@pytest.mark.parametrize("family", ["gpt_neo", "llama", "mistral", "qwen2"])
@pytest.mark.parametrize("cut", [{}, {"top_k": 20}, {"top_p": 0.8}])
def test_a_row_says_the_same_alone(family: str, cut: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Given its draws, a sampled row depends neither on other rows nor on when they leave, nor on padding."""
    model = family_model(family)
    gen_kwargs = {"max_new_tokens": 16, "do_sample": True, "temperature": 0.8, **ENDS, **cut}
    prompts = PROMPTS * 2
    draws = torch.rand(len(prompts), 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: draws)
    together = generate(model, *left_pad(prompts, PAD), gen_kwargs, EOS, PAD)
    for row, prompt in enumerate(prompts):
        monkeypatch.setattr(torch, "rand", lambda *_, row=row, **__: draws[row : row + 1])
        alone = generate(model, *left_pad([prompt], PAD), gen_kwargs, EOS, PAD)
        assert together.response[row][together.response_mask[row]].tolist() == alone.response[0].tolist()
        assert together.ended[row] == alone.ended[0]


@pytest.mark.parametrize("family", ["gpt_neo", "gpt2", "llama", "opt", "mistral", "bloom"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_recorded_logprobs_equal_a_forward_pass(family: str, temperature: float) -> None:
    model = family_model(family)
    ids, mask = left_pad(PROMPTS * 2, PAD)
    torch.manual_seed(1)
    settings = {"max_new_tokens": 12, "do_sample": True, "temperature": temperature, **ENDS}
    made = generate(model, ids, mask, settings, EOS, PAD, with_logprobs=True)
    whole = torch.cat([ids, made.response], dim=1)
    whole_mask = torch.cat([mask, made.response_mask.long()], dim=1)
    positions = {} if family == "bloom" else {"position_ids": position_ids(whole_mask)}
    with torch.no_grad():
        logits = model(input_ids=whole, attention_mask=whole_mask, **positions).logits
    expected = logprobs_of_tokens(logits[:, ids.shape[1] - 1 : -1], made.response, temperature)
    assert made.logprobs is not None
    real = made.response_mask
    torch.testing.assert_close(made.logprobs[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["gpt_neo", "llama", "bloom", "opt"])
def test_prompts_read_in_slices_give_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model(family)
    ids, mask = left_pad([*PROMPTS, PROMPTS[0] * 2], PAD)
    results = []
    for tokens in (10**6, 40, 1):  # all rows at once, two by two, one by one
        monkeypatch.setattr(decoding, "SLICE_TOKENS", tokens)
        results.append(generate(model, ids, mask, {"max_new_tokens": 8}, EOS, PAD, with_logprobs=True))
    same(results[0], results[1])
    same(results[0], results[2])


@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 6},
        {"min_length": 25},
        {"bad_words_ids": [[7], [8, 9]]},
        {"suppress_tokens": [11, 12, 13]},
        {"max_length": 24},
        {"eos_token_id": [EOS, 77, 78, 79]},
        {"pad_token_id": 9},
        {"num_beams": 1, "repetition_penalty": 1.0, "use_cache": False, "typical_p": 1.0, "length_penalty": 1.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_plain_options_equal_transformers(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model()
    ids, mask = left_pad(PROMPTS * 2, PAD)
    gen_kwargs = {**({} if "max_length" in options else {"max_new_tokens": 15}), **ENDS, **options}
    assert suits(model, gen_kwargs)
    own = generate(model, ids, mask, gen_kwargs, EOS, PAD, with_logprobs=True)
    theirs = by_transformers(monkeypatch, model, ids, mask, gen_kwargs, EOS, PAD, with_logprobs=True)
    same(own, theirs)


def test_what_the_loop_leaves_to_transformers() -> None:
    model = random_model("llama")
    limit = {"max_new_tokens": 4}
    assert suits(model, limit) and suits(model, {**limit, "top_p": 0.9, "top_k": None})
    for other in ({"num_beams": 2}, {"typical_p": 0.9}, {"num_return_sequences": 2}, {"repetition_penalty": 1.5}):
        assert not suits(model, {**limit, **other})
    assert not suits(model, {})  # no limit: transformers has its own
    small = {"vocab_size": VOCAB, "hidden_size": 16, "num_hidden_layers": 1}
    assert not suits(AutoModelForCausalLM.from_config(MambaConfig(**small, state_size=4)), limit)


def test_beams_and_encoder_decoders_work() -> None:
    ids, mask = left_pad(PROMPTS, PAD)
    beams = generate(random_model("llama"), ids, mask, {"max_new_tokens": 5, "num_beams": 2}, EOS, PAD)
    assert beams.response.shape[0] == len(PROMPTS)
    with pytest.raises(UserError, match=r"num_beams.*no log-probabilities"):
        generate(random_model("llama"), ids, mask, {"max_new_tokens": 5, "num_beams": 2}, EOS, PAD, with_logprobs=True)


def t5() -> PreTrainedModel:
    torch.manual_seed(0)
    small = T5Config(vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0)
    small.decoder_start_token_id, small.eos_token_id, small.pad_token_id = PAD, EOS, PAD
    model = AutoModelForSeq2SeqLM.from_config(small, dtype=torch.float32)
    return model.eval()


def test_an_encoder_decoder_gives_its_response_alone() -> None:
    """The decoder's start token is not part of it, and the log-probabilities are of the tokens beside them."""
    model = t5()
    ids, mask = left_pad(PROMPTS * 3, PAD)
    assert not suits(model, {"max_new_tokens": 4})
    torch.manual_seed(0)
    made = generate(model, ids, mask, {"max_new_tokens": 9, "do_sample": True, **ENDS}, EOS, PAD, with_logprobs=True)
    assert 0 < made.ended.sum() < len(ids) and made.response.shape[1] <= 9
    start = torch.full((len(ids), 1), PAD)
    with torch.no_grad():
        decoder_ids = torch.cat([start, made.response[:, :-1]], dim=1)
        logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids).logits
    real = made.response_mask
    assert made.logprobs is not None
    expected = logprobs_of_tokens(logits, made.response)[real]
    torch.testing.assert_close(made.logprobs[real], expected, atol=1e-5, rtol=0)


def chain_mask() -> Tensor:
    """After token t only t + 1 may come, from 200 on only EOS."""
    forbidden = torch.ones(VOCAB, VOCAB, dtype=torch.bool)
    for token in range(VOCAB):
        forbidden[token, token + 1 if token < 200 else EOS] = False
    return forbidden


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("own", [True, False])
def test_a_logit_mask_forces_a_chain(sample: bool, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked by hand: from 198 the chain is 199, 200, EOS. What is certain has log-probability 0."""
    if not own:
        monkeypatch.setattr(sampling, "suits", lambda model, gen_kwargs: False)
    ids, mask = left_pad([[7, 198], [190]], PAD)
    settings = {"max_new_tokens": 5, "do_sample": sample}
    made = generate(random_model("llama"), ids, mask, settings, EOS, PAD, with_logprobs=True, logit_mask=chain_mask())
    assert made.response.tolist() == [[199, 200, EOS, PAD, PAD], [191, 192, 193, 194, 195]]
    assert made.ended.tolist() == [True, False]
    assert made.logprobs is not None and made.logprobs[made.response_mask].abs().max() < 1e-6


def test_a_smaller_logit_mask_leaves_other_tokens_free() -> None:
    """Token 1 may follow no token below 3; token 5 (beyond the mask) may follow anything."""
    forbidden = torch.zeros(3, 3, dtype=torch.bool)
    forbidden[1] = True
    ids, mask = left_pad([[1]] * 300, PAD)
    settings = {"max_new_tokens": 1, "do_sample": True, "temperature": 50.0}  # nearly uniform
    made = generate(random_model("llama"), ids, mask, settings, EOS, PAD, logit_mask=forbidden)
    assert made.response.min() >= 3
    with pytest.raises(UserError, match=r"logit_mask has shape \(300, 300\).*the model's 257"):
        generate(random_model("llama"), ids, mask, settings, EOS, PAD, logit_mask=torch.zeros(300, 300))


def test_logits_that_are_no_distribution_are_refused() -> None:
    model = random_model("llama")
    with torch.no_grad():
        model.get_output_embeddings().weight[9] = float("nan")
    for cut in ({}, {"top_k": 5}, {"top_p": 0.5}):
        with pytest.raises(RuntimeError, match="not-a-number"):
            generate(model, *left_pad(PROMPTS, PAD), {"max_new_tokens": 2, "do_sample": True, **cut}, EOS, PAD)


def test_prompts_without_tokens_are_refused() -> None:
    nothing = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(UserError, match="prompts without tokens"):
        generate(random_model("llama"), nothing, nothing, {"max_new_tokens": 2}, EOS, PAD)


def test_the_models_own_defaults_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model published with a temperature and cuts is sampled from as asked: here all but greedily."""
    model = random_model("llama")
    model.generation_config.update(temperature=1e-4, top_k=1, do_sample=True)
    ids, mask = left_pad([[7, 8]] * 64, PAD)
    for way in (generate, lambda *a: by_transformers(monkeypatch, *a)):
        made = way(model, ids, mask, {"max_new_tokens": 1, "do_sample": True}, EOS, PAD)
        assert len(set(made.response[:, 0].tolist())) > 5


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_adapters(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoRA runs in our loop; learned prompt tokens, which lengthen the cache, through transformers."""
    peft = pytest.importorskip("peft")
    if kind == "lora":
        adapter = peft.LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False)
    else:
        adapter = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    torch.manual_seed(0)
    model = peft.get_peft_model(random_model("llama"), adapter).eval()
    ids, mask = left_pad(PROMPTS, PAD)
    assert suits(model, {"max_new_tokens": 8}) == (kind == "lora")
    made = generate(model, ids, mask, {"max_new_tokens": 8}, EOS, PAD, with_logprobs=True)
    same(made, by_transformers(monkeypatch, model, ids, mask, {"max_new_tokens": 8}, EOS, PAD, with_logprobs=True))


def test_which_caches_rows_can_leave() -> None:
    assert grows_in_place(growing_cache(random_model("gpt_neo"), 8))
    mixed = growing_cache(family_model("qwen2"), 8)
    assert {type(layer) for layer in mixed.layers} == {GrowingLayer, DynamicSlidingWindowLayer}
    assert rows_can_leave(mixed) and not grows_in_place(mixed)
    other = DynamicCache()
    other.layers = [GrowingLayer(8), LinearAttentionLayer()]
    assert not rows_can_leave(other)


def test_a_growing_layer_against_concatenation() -> None:
    """Appended to, thinned out and appended to again; no row's history changes."""
    generator = torch.Generator().manual_seed(0)
    layer = GrowingLayer(12)
    keys = values = torch.zeros(5, 2, 0, 4)
    for step, order in enumerate([[0, 1, 2, 3, 4], [0, 4, 2], [0, 1, 2], [2, 1], [0]]):
        indices = torch.tensor(order)
        layer.batch_select_indices(indices)
        keys, values = keys[indices], values[indices]
        new = torch.randn(2, len(keys), 2, 2 if step else 4, 4, generator=generator)
        keys, values = torch.cat([keys, new[0]], dim=2), torch.cat([values, new[1]], dim=2)
        seen = layer.update(new[0], new[1])
        assert torch.equal(seen[0], keys) and torch.equal(seen[1], values)
        assert layer.get_seq_length() == keys.shape[2] and layer.get_mask_sizes(1) == (keys.shape[2] + 1, 0)
