"""Sizes and lifetimes without data: against published sizes, real models, and counts worked by hand."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoConfig, LlamaConfig, OPTConfig

from launch.plan.shapes import Alive, count, dropping_gradients, on_shapes, watching
from launch.plan.sources import config_of

NEO = GPTNeoConfig(
    vocab_size=101, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]]
)


@pytest.mark.parametrize(
    "config",
    [
        NEO,
        GPT2Config(vocab_size=101, n_embd=16, n_layer=2, n_head=2),
        OPTConfig(vocab_size=101, hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2),
        LlamaConfig(
            vocab_size=101, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            tie_word_embeddings=False,
        ),
    ],
    ids=lambda config: config.model_type,
)  # fmt: skip
def test_counts_are_those_of_the_real_model(config):
    real = AutoModelForCausalLM.from_config(config)
    with on_shapes():
        counted = count(AutoModelForCausalLM.from_config(config))
    assert counted.numbers == sum(parameter.numel() for parameter in real.parameters())
    assert counted.tensor_bytes == 4 * counted.numbers
    assert counted.buffer_bytes == sum(buffer.numel() * buffer.element_size() for buffer in real.buffers())


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (GPT2Config(), 124_439_808),
        (OPTConfig(), 125_239_296),  # the defaults are OPT-125m's
        (LlamaConfig(), 6_738_415_616),  # and Llama 7B's
        (config_of("EleutherAI/gpt-neo-125M", "--policy")[0], 125_198_592),
        (config_of("EleutherAI/gpt-neo-1.3B", "--policy")[0], 1_315_575_808),
        (config_of("EleutherAI/gpt-neo-2.7B", "--policy")[0], 2_651_307_520),
    ],
)
def test_counts_are_the_published_ones(config, published):
    with on_shapes():
        assert count(AutoModelForCausalLM.from_config(config)).numbers == published


def test_a_tied_weight_counts_once_and_what_another_has_not_at_all():
    head, trunk = nn.Linear(8, 4, bias=False), nn.Linear(8, 8)
    both = nn.Sequential(trunk, head, head)
    assert count(both).numbers == 32 + 72
    assert count(both, without=trunk).numbers == 32


def test_the_worst_moment_worked_by_hand():
    with on_shapes():
        model = nn.Identity()
        x = torch.zeros(100)  # 400 bytes, known
        with watching(model, 7, x) as live:
            a = x + 1  # 400
            b = a * 2  # 800
            del a  # 400
            c = torch.cat([b, b])  # 1200
            del b, c  # 0
            d = torch.zeros(3, 7)  # 84, over the vocabulary
            assert live.now == {True: 84, False: 0}
            del d
    assert live.worst == Alive(logits=0, other=1200)
    assert live.now == {True: 0, False: 0}


def test_views_take_nothing():
    with on_shapes():
        x = torch.zeros(10, 10)
        with watching(nn.Identity(), 7, x) as live:
            kept = [x.t(), x[:5], x.view(-1)]
            assert live.worst.total == 0 and len(kept) == 3


def test_dropped_gradients_leave_nothing_and_kept_ones_stay():
    with on_shapes():
        model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
        x = torch.zeros(1, 10)
        with watching(model, 7, x) as kept:
            model(x).sum().backward()
            held = kept.now[False]
        for parameter in model.parameters():
            parameter.grad = None
        with dropping_gradients(model), watching(model, 7, x) as dropped:
            model(x).sum().backward()
            left = dropped.now[False]
    assert held >= 800  # both gradients, 400 bytes each
    assert left < 400
