"""Batches and losses of SFT, worked by hand."""

from types import SimpleNamespace

import pytest
import torch

from sft.collator import SummaryCollator
from sft.loss import summary_loss, token_nll

EOS = 0
SAMPLES = [
    {"prompt_ids": [5, 6, 7], "response_ids": [8, EOS], "row": 3},
    {"prompt_ids": [9], "response_ids": [EOS], "row": 1},
]


def test_labels_are_the_summary_and_its_eos_even_when_padding_is_eos() -> None:
    batch = SummaryCollator(pad_token_id=EOS)(SAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, EOS], [9, EOS, EOS, EOS, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 8, EOS], [-100, EOS, -100, -100, -100]]
    assert batch["rows"].tolist() == [3, 1]


def test_loss_on_prompt_labels_all_but_the_first_token() -> None:
    batch = SummaryCollator(pad_token_id=EOS, loss_on_prompt=True)(SAMPLES)
    assert batch["labels"].tolist() == [[-100, 6, 7, 8, EOS], [-100, EOS, -100, -100, -100]]


def test_the_pad_id_changes_no_label() -> None:
    labels = [SummaryCollator(pad_token_id=pad)(SAMPLES)["labels"] for pad in (EOS, 99)]
    assert torch.equal(*labels)


def test_token_nll_golden() -> None:
    # vocabulary of 4, all logits alike: ln 4 = 1.386294 a token; two tokens are labelled
    total, count = token_nll(torch.zeros(1, 4, 4), torch.tensor([[-100, -100, 2, 0]]))
    assert count.item() == 2 and total.item() == pytest.approx(2.772589, abs=1e-6)


def test_position_t_predicts_token_t_plus_1() -> None:
    logits = torch.full((1, 3, 4), -100.0)
    logits[0, 1, 2] = 100.0  # after the second token, token 2 is certain
    total, _ = token_nll(logits, torch.tensor([[-100, -100, 2]]))
    assert total.item() == pytest.approx(0.0, abs=1e-6)


def test_loss_divides_by_the_whole_steps_tokens() -> None:
    outputs, labels = SimpleNamespace(logits=torch.zeros(1, 4, 4)), torch.tensor([[-100, 1, 2, 0]])
    assert summary_loss(outputs, labels).item() == pytest.approx(1.386294, abs=1e-6)
    assert summary_loss(outputs, labels, num_items_in_batch=6).item() == pytest.approx(0.693147, abs=1e-6)
