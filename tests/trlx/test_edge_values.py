"""Inputs at the edge: pads that hold no number, numbers written as text, model configs as objects, odd head widths."""

import torch
from tiny_engine import neo_config
from transformers import AutoModelForCausalLM, OPTConfig

from trlx.data.default_configs import default_ppo_config
from trlx.functional.ppo import value_loss_sum
from trlx.models.modeling_ppo import AutoModelForCausalLMWithValueHead
from trlx.utils.optimizers import make_optimizer


def test_pads_that_are_no_number_give_no_gradient() -> None:
    nan = float("nan")
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    old, returns, mask = torch.tensor([[1.0, nan]]), torch.tensor([[3.0, nan]]), torch.tensor([[True, False]])
    value_loss_sum(values, old, returns, mask, 0.2)[0].backward()
    assert values.grad is not None
    # ½(1 − 3)² has the slope 1 − 3.
    assert values.grad.tolist() == [[-2.0, 0.0]]


def test_a_rate_written_1e_5_is_a_number() -> None:
    optimizer = make_optimizer("adamw", torch.nn.Linear(1, 1).parameters(), {"lr": "1e-5", "betas": ["0.9", 0.95]})
    assert optimizer.param_groups[0]["lr"] == 1e-5
    assert tuple(optimizer.param_groups[0]["betas"]) == (0.9, 0.95)


def test_a_model_config_stays_an_object_in_copies() -> None:
    config = default_ppo_config()
    config.model.model_path = neo_config()
    changed = config.evolve(train={"seed": 2})
    assert changed.model.model_path.to_dict() == neo_config().to_dict()
    assert "GPTNeoConfig" in str(config)


def test_the_value_head_fits_a_model_that_projects_before_its_head() -> None:
    config = OPTConfig(
        vocab_size=50,
        hidden_size=32,
        word_embed_proj_dim=16,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    model = AutoModelForCausalLMWithValueHead(AutoModelForCausalLM.from_config(config))
    ids = torch.randint(2, 50, (2, 8))
    assert model(ids, torch.ones_like(ids), return_dict=True).value.shape == (2, 8)
