"""Language models with ILQL's heads: forward, steered generation, targets, saving; causal and encoder-decoder."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import EOS, VOCAB, family_config, ragged_rows, random_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel, T5Config

from trlx.generation.sampling import generate
from trlx.models.branches import find_blocks
from trlx.models.modeling_ilql import (
    AutoModelForCausalLMWithILQLHeads,
    AutoModelForSeq2SeqLMWithILQLHeads,
    ILQLHeads,
    batched_index_select,
    read_generation,
)
from trlx.utils.errors import UserError

FAMILIES = ("gpt_neo", "gpt2", "llama", "opt")
PAD, START = 256, 256


def noise_(module: torch.nn.Module, seed: int = 5) -> None:
    """Large random weights, the targets' different from the Q heads'."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def causal(family: str = "gpt_neo", **options: Any) -> AutoModelForCausalLMWithILQLHeads:
    model = AutoModelForCausalLMWithILQLHeads.from_pretrained(random_model(family), **options).eval()
    noise_(model.ilql_heads)
    return model


def random_t5() -> PreTrainedModel:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=START, eos_token_id=EOS, pad_token_id=PAD,
    )  # fmt: skip
    return AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32).eval()


def seq2seq(**options: Any) -> AutoModelForSeq2SeqLMWithILQLHeads:
    model = AutoModelForSeq2SeqLMWithILQLHeads.from_pretrained(random_t5(), **options).eval()
    noise_(model.ilql_heads)
    return model


def biased_towards(model: Any, token: int) -> Any:
    """The target Q heads prefer one token."""
    with torch.no_grad():
        for head in model.ilql_heads.target_q_heads:
            head[2].bias[token] += 50.0
    return model


# -- heads ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_heads_at_positions_are_heads_everywhere_read_there(b: int, t: int, a: int, s: int, two_qs: bool) -> None:
    heads = ILQLHeads(8, 5, two_qs, alpha=0.5, dtype=torch.float32)
    noise_(heads)
    states = torch.randn(b, t, 8)
    states_ixs, actions_ixs = torch.randint(0, t, (b, s)), torch.randint(0, t, (b, a))
    qs, target_qs, vs = heads(states, states_ixs, actions_ixs)
    every_q, every_target, every_v = heads(states)
    assert len(qs) == len(target_qs) == 1 + two_qs
    assert qs[0].shape == target_qs[0].shape == (b, a, 5) and vs.shape == (b, s, 1)
    for some, everything in zip((*qs, *target_qs), (*every_q, *every_target), strict=True):
        torch.testing.assert_close(some, batched_index_select(everything, actions_ixs, dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(vs, batched_index_select(every_v, states_ixs, dim=1), atol=1e-6, rtol=0)
    assert not any(target.requires_grad for target in target_qs)


def test_targets_start_as_copies_and_follow() -> None:
    heads = ILQLHeads(4, 3, two_qs=True, alpha=0.25)
    sources, targets = list(heads.q_heads.parameters()), list(heads.target_q_heads.parameters())
    assert all(torch.equal(*pair) for pair in zip(sources, targets, strict=True))
    assert not torch.equal(heads.q_heads[0][0].weight, heads.q_heads[1][0].weight)
    assert {p.requires_grad for p in targets} == {False}
    with torch.no_grad():
        for source, target in zip(sources, targets, strict=True):
            source.fill_(2.0)
            target.fill_(1.0)
    for expected in (1.25, 1.4375):  # ¼·2 + ¾·1, ¼·2 + ¾·1.25
        heads.sync_target_q_heads()
        assert {value for target in targets for value in target.flatten().tolist()} == {expected}
    assert all(source.eq(2.0).all() for source in sources)


def test_a_small_alpha_is_not_lost_in_16_bits() -> None:
    heads = ILQLHeads(4, 3, two_qs=False, alpha=0.001, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in heads.q_heads.parameters():
            parameter.fill_(2.0)
        for parameter in heads.target_q_heads.parameters():
            parameter.fill_(1.0)
    for _ in range(1000):
        heads.sync_target_q_heads()
    # 2 − 0.999^1000 = 1.632; one step is below bfloat16's 1/128, so weights alone would still be 1
    for parameter in heads.target_q_heads.parameters():
        assert parameter.float().sub(1.632).abs().max() < 1 / 128


# -- forward -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_padded_batch_are_rows_alone(family: str) -> None:
    model, (ids, mask) = causal(family), ragged_rows()
    actions = mask.long().argmax(dim=1, keepdim=True) + torch.tensor([0, 2])  # in real tokens: 0 and 2
    with torch.no_grad():
        logits, qs, target_qs, vs, _ = model(ids, mask, actions_ixs=actions, states_ixs=actions)
        for row in range(len(ids)):
            alone = model(ids[row : row + 1, mask[row].bool()])
            first = int(actions[row, 0])
            length = int(mask[row].sum())
            torch.testing.assert_close(logits[row, first : first + length], alone[0][0], atol=2e-5, rtol=0)
            for got, expected in zip((*qs, *target_qs, vs), (*alone[1], *alone[2], alone[3]), strict=True):
                torch.testing.assert_close(got[row], expected[0, [0, 2]], atol=2e-5, rtol=0)
    assert torch.equal(logits, model.base_model(ids, attention_mask=mask, **positions(model, mask)).logits)


def positions(model: Any, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    takes = "position_ids" in inspect.signature(model.base_model.forward).parameters
    return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if takes else {}


def test_forward_goes_on_from_a_cache() -> None:
    model, (ids, mask) = causal(), ragged_rows()
    with torch.no_grad():
        whole = model(ids, mask)
        cache = model(ids[:, :6], mask[:, :6])[4]
        rest = model(ids[:, 6:], mask, past_key_values=cache)
    real = mask[:, 6:].bool()
    torch.testing.assert_close(rest[3][real], whole[3][:, 6:][real], atol=2e-5, rtol=0)
    torch.testing.assert_close(rest[1][0][real], whole[1][0][:, 6:][real], atol=2e-5, rtol=0)


def test_forward_of_an_encoder_decoder() -> None:
    model, ids = seq2seq(), torch.randint(1, 200, (2, 5))
    decoder = torch.tensor([[START, 5, 6], [START, 7, 8]])
    index = torch.tensor([[0, 2], [1, 2]])
    with torch.no_grad():
        logits, qs, target_qs, vs, _, encoder = model(
            ids, torch.ones_like(ids), decoder_input_ids=decoder, actions_ixs=index, states_ixs=index
        )
        every = model(ids, torch.ones_like(ids), decoder)
    assert logits.shape == (2, 3, VOCAB) and encoder[0].shape == (2, 5, 16)
    for got, expected in zip((*qs, *target_qs, vs), (*every[1], *every[2], every[3]), strict=True):
        torch.testing.assert_close(got, batched_index_select(expected, index), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="decoder_input_ids is missing"):
        model(ids)


@pytest.mark.parametrize("unfrozen", [-1, 0, 2])
def test_what_trains(unfrozen: int) -> None:
    model = causal(num_layers_unfrozen=unfrozen)
    trains = [next(block.parameters()).requires_grad for block in find_blocks(model.bare)]
    assert trains == {-1: [True] * 4, 0: [False] * 4, 2: [False, False, True, True]}[unfrozen]
    assert all(p.requires_grad != name.startswith("target") for name, p in model.ilql_heads.named_parameters())


# -- generation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_without_beta_and_temperature_it_is_the_greedy_language_model(family: str) -> None:
    model, (ids, mask) = causal(family), ragged_rows(response=0)
    ends = {"eos_token_id": 7, "pad_token_id": PAD}
    made = model.generate(ids, mask, beta=0, temperature=0, max_new_tokens=9, **ends)
    expected = model.base_model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=9, **ends)
    assert torch.equal(made, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("two_qs", [True, False])
def test_greedy_steered_tokens_are_the_best_of_the_formula(family: str, two_qs: bool) -> None:
    model, (ids, mask) = causal(family, two_qs=two_qs), ragged_rows(response=0)
    beta = 0.8
    made = model.generate(ids, mask, beta=beta, temperature=0, max_new_tokens=6, eos_token_id=-1, pad_token_id=PAD)
    plain = model.generate(ids, mask, beta=0, temperature=0, max_new_tokens=6, eos_token_id=-1, pad_token_id=PAD)
    assert not torch.equal(made, plain)
    with torch.no_grad():
        for row in range(len(ids)):  # a plain loop: each row alone, whole prefixes, no cache
            tokens = ids[row, mask[row].bool()].tolist()
            for _ in range(6):
                logits, _, target_qs, vs, _ = model(torch.tensor([tokens]))
                q = target_qs[0][0, -1].minimum(target_qs[-1][0, -1])
                steered = logits[0, -1].log_softmax(-1) + beta * (q - vs[0, -1])
                tokens.append(int(steered.argmax()))
            assert made[row, -6:].tolist() == tokens[-6:]


def test_our_own_loop_is_steered_alike() -> None:
    model, (ids, mask) = causal(), ragged_rows(response=0)
    made = model.generate(ids, mask, beta=0.8, temperature=0, max_new_tokens=6, eos_token_id=-1, pad_token_id=PAD)
    with model.steered(0.8):
        own = generate(model.base_model, ids, mask, {"max_new_tokens": 6}, eos_token_id=None, pad_token_id=PAD)
    assert torch.equal(own.response, made[:, ids.shape[1] :])
    after = generate(model.base_model, ids, mask, {"max_new_tokens": 6}, eos_token_id=None, pad_token_id=PAD)
    assert not torch.equal(after.response, own.response)  # the model is left as it was


def test_a_large_beta_follows_q_and_samples_follow_the_formula() -> None:
    model = biased_towards(causal(), 65)
    ids = torch.full((4, 3), 9)
    made = model.generate(ids, beta=10.0, max_new_tokens=4, eos_token_id=EOS, pad_token_id=PAD)
    assert made[:, 3:].eq(65).all()
    # One token often, against softmax(steered / temperature): the commonest token's share of 4,000, within 4 sigma.
    model, rows, heat = causal(), 4000, 0.5
    prompt = torch.tensor([[9, 4, 30]])
    with torch.no_grad():
        logits, _, target_qs, vs, _ = model(prompt)
    q = target_qs[0][0, -1].minimum(target_qs[1][0, -1])
    share = ((logits[0, -1].log_softmax(-1) + 0.5 * (q - vs[0, -1])) / heat).softmax(-1)
    best, token = share.max(-1)
    assert 0.05 < best < 0.95
    torch.manual_seed(1)
    made = model.generate(prompt.expand(rows, 3), beta=0.5, temperature=heat, top_k=0, max_new_tokens=1)
    got = made[:, 3].eq(token).float().mean()
    assert abs(got - best) < 4 * (best * (1 - best) / rows).sqrt()


def test_top_k() -> None:
    model = causal()
    prompt = torch.tensor([[9, 4, 30]])
    with torch.no_grad():
        logits, _, target_qs, vs, _ = model(prompt)
    q = target_qs[0][0, -1].minimum(target_qs[1][0, -1])
    likely = (logits[0, -1].log_softmax(-1) + 0.1 * (q - vs[0, -1])).topk(3).indices
    made = model.generate(prompt.expand(500, 3), beta=0.1, temperature=5.0, top_k=3, max_new_tokens=1)
    assert set(made[:, 3].tolist()) == set(likely.tolist())


def test_a_logit_mask_forbids_by_the_token_before() -> None:
    model = causal()
    forbidden = torch.ones(VOCAB, VOCAB, dtype=torch.bool)
    forbidden[torch.arange(VOCAB), (torch.arange(VOCAB) + 1) % VOCAB] = False  # only the next id may follow
    made = model.generate(torch.tensor([[3, 10]]), beta=1.0, max_new_tokens=4, logit_mask=forbidden)
    assert made.tolist() == [[3, 10, 11, 12, 13, 14]]
    small = model.generate(torch.tensor([[3, 10]]), beta=1.0, max_new_tokens=4, logit_mask=forbidden[:12, :200])
    assert small[0, 2] == 11 or small[0, 2] >= 200  # of the ids below 200 only the next may follow


def test_finished_rows_stop() -> None:
    model = biased_towards(causal(), EOS)
    made = model.generate(torch.full((2, 3), 9), beta=10.0, max_new_tokens=8, eos_token_id=EOS, pad_token_id=PAD)
    assert made.shape == (2, 4) and made[:, 3].eq(EOS).all()


def test_the_mask_follows_from_pads_on_the_left() -> None:
    model = causal()
    ids = torch.tensor([[EOS, EOS, 9, 4], [EOS, 7, EOS, 5], [EOS, EOS, EOS, EOS]])
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]])
    options = {"temperature": 0, "max_new_tokens": 5, "pad_token_id": EOS, "eos_token_id": EOS}
    assert torch.equal(model.generate(ids, **options), model.generate(ids, mask, **options))


def test_generation_of_an_encoder_decoder() -> None:
    model, ids = seq2seq(), torch.randint(1, 200, (3, 5))
    ends = {"eos_token_id": EOS, "pad_token_id": PAD}
    made = model.generate(ids, torch.ones_like(ids), beta=0, temperature=0, max_new_tokens=4, **ends)
    assert torch.equal(made, model.base_model.generate(input_ids=ids, do_sample=False, max_new_tokens=4, **ends))
    steered = model.generate(ids, beta=0.8, temperature=0, max_new_tokens=4, **ends)
    with torch.no_grad():
        for row in range(3):
            tokens = [START]
            for _ in range(4):
                one = ids[row : row + 1]
                logits, _, target_qs, vs, *_ = model(one, torch.ones_like(one), torch.tensor([tokens]))
                q = target_qs[0][0, -1].minimum(target_qs[1][0, -1])
                tokens.append(int((logits[0, -1].log_softmax(-1) + 0.8 * (q - vs[0, -1])).argmax()))
                if tokens[-1] == EOS:
                    break
            assert steered[row, : len(tokens)].tolist() == tokens
    assert not torch.equal(steered, made)
    started = model.generate(ids, decoder_input_ids=torch.tensor([[START, 44]] * 3), max_new_tokens=2, max_length=3)
    assert started.shape == (3, 3) and started[:, 1].eq(44).all()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("beta", "high", "'beta' must be a number, not 'high'"),
        ("beta", [1, 2], r"'beta' must be a number, not \[1, 2\]"),
        ("temperature", -1, "'temperature' is -1: it must be at least 0"),
        ("top_k", -1, "'top_k' is -1: it must be at least 0"),
        ("max_new_tokens", 0, "'max_new_tokens' is 0: it must be at least 1"),
        ("max_length", 3, "'max_length' leaves no room"),
    ],
)
def test_impossible_options(option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        causal().generate(torch.full((1, 3), 9), **{option: value})


def test_options_as_transformers_knows_them() -> None:
    beta, options = read_generation({"temperature": 0, "top_p": 0.5})
    assert beta == 1.0
    assert options == {"max_new_tokens": 32, "temperature": 1.0, "top_k": 20, "top_p": 0.5, "do_sample": False}
    assert read_generation({"do_sample": None})[1]["do_sample"] is True


# -- loading and saving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_save_and_load(kind: str, tmp_path: Path) -> None:
    model = causal(alpha=0.8) if kind == "causal" else seq2seq(alpha=0.8)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(str(tmp_path), alpha=0.8)
    assert again.ilql_heads.alpha == 0.8
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {name.split(".")[0] for name in state} == {"base_model", "ilql_heads"}
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    plain = auto.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(1, 200, (2, 5))
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if kind == "seq2seq" else {})
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, model.base_model(**inputs).logits)


def test_from_config() -> None:
    model = AutoModelForCausalLMWithILQLHeads.from_config(family_config("llama"), two_qs=False, alpha=0.1)
    assert model.ilql_heads.q_heads[0][2].out_features == VOCAB and len(model.ilql_heads.q_heads) == 1
    assert not model.two_qs and model.alpha == 0.1


@pytest.mark.parametrize("kind", ["LORA", "PROMPT_TUNING"])
def test_adapters(kind: str) -> None:
    pytest.importorskip("peft")
    options = {"LORA": {"r": 2, "lora_alpha": 4}, "PROMPT_TUNING": {"num_virtual_tokens": 3}}[kind]
    config = {"peft_type": kind, **options}
    model = AutoModelForCausalLMWithILQLHeads.from_pretrained(random_model("gpt2"), peft_config=config).eval()
    noise_(model.ilql_heads)
    ids, mask = ragged_rows(response=0)
    logits, qs, _, vs, _ = model(ids, mask)
    assert logits.shape[:2] == qs[0].shape[:2] == vs.shape[:2] == ids.shape
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"base_model", "ilql_heads"}
    made = biased_towards(model, 65).generate(ids, mask, beta=10.0, max_new_tokens=3, pad_token_id=PAD)
    assert made[:, -3:].eq(65).all()
