"""What passes have alive: against autograd's own account on a real model, and by how it must grow."""

import functools

import pytest
import torch
from transformers import GPTNeoConfig

from launch.plan.counting import Linear
from launch.plan.passes import trace_ppo, trace_reward, trace_scoring, trace_sft, trace_writing
from launch.plan.shapes import Alive, on_shapes

pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")


def neo(layers=4, hidden=32, vocabulary=211):
    return GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=4,
        max_position_embeddings=128,
        attention_types=[[["global", "local"], layers // 2]],
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


@functools.cache
def ppo(unfrozen, precision="fp32", autocast=False, **sizes):
    tokens = {"prompt": 24, "response": 8, **sizes}
    with on_shapes():
        return trace_ppo(
            neo(), None, **tokens, unfrozen=unfrozen, batch=2, chunk=3, precision=precision, autocast=autocast,
            slices=True,
        )  # fmt: skip


def test_a_line_is_exact_at_its_ends():
    line = Linear(Alive(10, 100), Alive(40, 400), 4)
    assert [line.at(rows) for rows in (1, 2, 4)] == [Alive(10, 100), Alive(20, 200), Alive(40, 400)]


def test_checkpointing_keeps_less_and_no_more_labels_than_are_asked_for_are_read():
    with on_shapes():
        few, many = (trace_sft(neo(), 64, labels, 8, "fp32", False) for labels in (1, 32))
    assert few.checkpointed.passing.at(8).total < 0.6 * few.plain.passing.at(8).total
    # 31 more labels in each of 8 rows; the worst moments of the two need not be the same
    extra = many.plain.passing.at(8).total - few.plain.passing.at(8).total
    assert 0 < extra <= 4 * (8 * 31 * 211 * 4)


def test_half_the_width_is_half_the_bytes():
    with on_shapes():
        whole, narrow = (trace_sft(neo(), 32, 8, 2, precision, False) for precision in ("fp32", "bf16"))
    assert narrow.weights.tensor_bytes * 2 == whole.weights.tensor_bytes
    assert narrow.plain.passing.at(2).total < 0.8 * whole.plain.passing.at(2).total
    assert narrow.plain.first is None  # 16-bit weights train under DeepSpeed alone
    assert whole.plain.first is not None


def test_frozen_blocks_of_a_reward_model_keep_nothing():
    with on_shapes():
        all_train = trace_reward(neo(), 32, 0.0, 2, "fp32", False)
        top = trace_reward(neo(), 32, 0.75, 2, "fp32", False)
    assert top.weights.trained < all_train.weights.trained
    assert top.plain.passing.at(2).total < 0.5 * all_train.plain.passing.at(2).total


def test_ppo_of_the_top_keeps_the_trunk_and_copies_the_top_alone():
    top, everything = ppo(2), ppo(-1)
    assert top.trunk_row == (24 + 8) * 32 * 4
    assert everything.trunk_row == 0
    block = 4 * 32 * 32 + 32 + 2 * (32 * 128) + 128 + 32 + 4 * 32  # attention, its bias, MLP, two norms
    assert top.reference.numbers == 2 * block + 2 * 32
    assert everything.reference.numbers == everything.trained.weights.numbers - everything.reference.numbers - (
        everything.critic.numbers
    )
    assert top.critic.numbers == (32 * 64 + 64) + (64 + 1)


def test_keys_and_values_are_two_tensors_a_layer():
    assert ppo(2).sampling.cache_row == 4 * 2 * (24 + 8) * 32 * 4
    assert ppo(2, precision="bf16").sampling.cache_row == 4 * 2 * (24 + 8) * 32 * 2


def test_logits_are_those_of_the_response_alone():
    logits = 3 * 8 * 211 * 4  # chunk, response, vocabulary
    collected = ppo(2).collect.at(3)
    assert collected.logits in (logits, 2 * logits) or collected.other > 0
    assert ppo(2, response=16, prompt=16).collect.at(3).total > collected.total


def test_autocast_passes_run_on_shapes():
    assert ppo(2, precision="bf16", autocast=True).trained.plain.first is not None


def test_a_judge_and_a_writer_are_counted_whole():
    with on_shapes():
        weights, scoring = trace_scoring(neo(), 32, 4, "fp32")
        policy, sampling = trace_writing(neo(), 24, 8, 4, "bf16", False)
    assert weights.numbers == policy.numbers + 32  # the score head
    assert policy.tensor_bytes == 2 * policy.numbers
    assert scoring.at(4).total > scoring.at(1).total > 0
    assert sampling.read.at(4).total > 0


def test_what_autograd_keeps_of_a_real_model_is_counted():
    """The same bytes, kept by a real forward pass, counted by autograd's own hooks."""
    from transformers import AutoModelForCausalLM

    with on_shapes():
        traced = trace_sft(neo(), 32, 32, 2, "fp32", False).plain.passing.at(2).total
    model = AutoModelForCausalLM.from_config(neo()).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(2, 32, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="sum")
    assert loss.requires_grad
    saved = sum(kept.values())
    assert saved <= traced <= 1.6 * saved  # and a backward pass's own tensors
