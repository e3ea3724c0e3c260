"""The SFT loss: numbers worked by hand, and transformers' own loss on a real model."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_stage import tiny_base
from transformers import AutoModelForCausalLM

from sft.collator import SummaryCollator
from sft.loss import SummaryObjective


class Counter(torch.nn.Module):
    """After token i it gives token i + 1 the logit `sure` and the three others 0, through a linear head."""

    def __init__(self, sure: float):
        super().__init__()
        self.head = torch.nn.Linear(4, 4, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(sure * torch.roll(torch.eye(4), 1, dims=0))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(torch.nn.functional.one_hot(input_ids, 4).float()))


def batch(labels: list[list[int]], ids: list[list[int]]) -> dict[str, torch.Tensor]:
    tensors = {"labels": torch.tensor(labels), "input_ids": torch.tensor(ids)}
    return {**tensors, "attention_mask": torch.ones_like(tensors["input_ids"])}


def test_uniform_predictions_cost_ln_4_a_token() -> None:
    model = Counter(sure=0.0)
    objective = SummaryObjective(model.head)
    one = batch([[-100, -100, 2, 0]], [[3, 1, 2, 0]])
    assert objective.measure(model, one) == {"loss": (pytest.approx(2.772589, abs=1e-6), 2.0)}
    assert objective(model, one).item() == pytest.approx(1.386294, abs=1e-6)
    assert objective(model, one, 8).item() == pytest.approx(0.346574, abs=1e-6)
    # two ranks' gradients are averaged, and the 8 tokens are those of both
    assert SummaryObjective(model.head, world_size=2)(model, one, 8).item() == pytest.approx(0.693147, abs=1e-6)


def test_a_position_predicts_the_next_token() -> None:
    model = Counter(sure=100.0)
    objective = SummaryObjective(model.head)
    counting = batch([[-100, 2, 3], [-100, -100, 2]], [[1, 2, 3], [0, 1, 2]])
    assert objective(model, counting).item() == pytest.approx(0.0, abs=1e-6)
    wrong = batch([[-100, 2, 2]], [[1, 2, 2]])  # after 2 comes 3, not 2: 100 nats for one of two tokens
    assert objective(model, wrong).item() == pytest.approx(50.0, abs=1e-4)
    assert not model.head._forward_pre_hooks


def test_it_equals_transformers_own_loss_and_gradient(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_base(tmp_path), resid_dropout=0.0)
    samples = [
        {"prompt_ids": [5, 6, 7, 8], "response_ids": [9, 10, 0], "row": 0},
        {"prompt_ids": [11], "response_ids": [12, 0], "row": 1},
    ]
    inputs = SummaryCollator(pad_token_id=0)(samples)
    inputs.pop("rows")
    theirs = model(**inputs).loss
    theirs.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    ours = SummaryObjective(model.get_output_embeddings())(model, inputs)
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-6), name
