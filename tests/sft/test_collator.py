"""Batches of SFT, worked by hand."""

import torch

from sft.collator import SummaryCollator

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
