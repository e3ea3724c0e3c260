"""Loading a policy: the one-pass GELU is the same function."""

import torch
from families import random_model
from transformers.activations import NewGELUActivation

from trlx.models.loading import fuse_activations


def test_the_fused_gelu_is_the_same_function() -> None:
    inputs = torch.linspace(-6, 6, 1001, requires_grad=True)
    plain = NewGELUActivation()(inputs)
    fused = torch.nn.functional.gelu(inputs, approximate="tanh")
    torch.testing.assert_close(fused, plain, atol=1e-6, rtol=1e-6)
    (one,), (other,) = (torch.autograd.grad(value.sum(), inputs, retain_graph=True) for value in (plain, fused))
    torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_a_models_activations_are_swapped_and_nothing_else() -> None:
    model, ids = random_model("gpt2"), torch.randint(1, 60, (2, 9))
    before, names = model(ids).logits, list(model.state_dict())
    fuse_activations(model)
    assert not any(type(module) is NewGELUActivation for module in model.modules())
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(ids).logits, before, atol=1e-5, rtol=1e-5)
