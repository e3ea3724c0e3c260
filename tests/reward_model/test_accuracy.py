"""Agreement with held-out labels, by group, and the CSV of scored pairs."""

import csv
from pathlib import Path
from typing import Any

import pytest

from reward_model.accuracy import accuracies, accuracy_by, agreement, proportion_interval, write_scored_pairs
from tasks.records import Pair
from trlx.utils.errors import UserError


def pair(name: str, **extra: Any) -> Pair:
    return Pair(name, "POST: p\nTL;DR:", "the better one", "=the worse one", extra)


PAIRS = [
    pair("a", batch="batch4", confidence=9, worker="w1", gold_prefers_chosen=True),
    pair("b", batch="batch4", confidence=-3, worker="w2", gold_prefers_chosen=False),
    pair("c", batch="batch12", confidence=9, worker="w1"),
    pair("d", batch="batch12", worker="w1"),
]
CHOSEN, REJECTED = [1.0, 2.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.5]  # right, right, wrong, a tie


def test_agreement_counts_a_tie_as_half() -> None:
    assert agreement(CHOSEN, REJECTED) == [1.0, 1.0, 0.0, 0.5]


def test_accuracy_overall_and_by_group() -> None:
    found = accuracies(PAIRS, agreement(CHOSEN, REJECTED))
    assert (found["pairs"], found["accuracy"]) == (4, 2.5 / 4)
    assert found["accuracy_noise_free"] == 0.5  # a right; b agrees with a label that is known to be wrong
    table = found["by"]
    assert {
        group: {name: (row["pairs"], row["accuracy"]) for name, row in table[group].items()} for group in table
    } == {
        "batch": {"batch12": (2, 0.25), "batch4": (2, 1.0)},
        "confidence": {"-3": (1, 1.0), "9": (2, 0.5)},
        "worker": {"w1": (3, 0.5), "w2": (1, 1.0)},
    }
    assert list(table["confidence"]) == ["-3", "9"]  # in the order of the numbers
    low, high = table["confidence"]["9"]["accuracy_interval_95"]
    assert low < 0.5 < high
    assert accuracy_by(PAIRS, [1.0] * 4, "site") == {}
    assert accuracies([pair("e")], [1.0])["by"] == {}


def test_interval_golden() -> None:
    # Wilson, 8 of 10: centre (0.8 + 1.9208/10) / 1.38415 = 0.71674, half 0.22655
    assert proportion_interval(8, 10) == pytest.approx([0.49016, 0.94331], abs=1e-4)
    # a tie is half a hit, 2.5 of 4: centre (0.625 + 1.9208/4) / 1.96036 = 0.56377, half 0.34434
    assert proportion_interval(2.5, 4) == pytest.approx([0.21943, 0.90811], abs=1e-4)


def test_scored_pairs_keep_what_the_data_say(tmp_path: Path) -> None:
    path = tmp_path / "test_pairs.csv"
    write_scored_pairs(path, PAIRS, CHOSEN, REJECTED)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert rows[0] == {
        "id": "a",
        "score_chosen": "1.0",
        "score_rejected": "0.0",
        "right": "1.0",
        "batch": "batch4",
        "confidence": "9",
        "worker": "w1",
        "gold_prefers_chosen": "True",
        "prompt": "POST: p\nTL;DR:",
        "chosen": "the better one",
        "rejected": "'=the worse one",  # a spreadsheet must not run it
    }
    assert rows[3]["confidence"] == "" and rows[2]["right"] == "0.0"


def test_columns_of_the_data_do_not_pass_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "test_pairs.csv"
    write_scored_pairs(path, [pair("a", score_chosen=8.5, right="yes", id="x", stars=3)], [1.0], [2.0])
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["score_chosen"], row["score_rejected"], row["right"]) == ("a", "1.0", "2.0", "0.0")
    assert (row["data_score_chosen"], row["data_right"], row["data_id"], row["stars"]) == ("8.5", "yes", "x", "3")


def test_a_group_that_is_no_plain_value_is_left_out() -> None:
    odd = [pair("a", batch=["b1", "b2"], worker={"id": 1}), pair("b", batch="b1")]
    table = accuracies(odd, [1.0, 0.0])["by"]
    assert {group: list(rows) for group, rows in table.items()} == {"batch": ["b1"]}


def test_a_noise_free_label_must_be_true_or_false() -> None:
    assert accuracies([pair("a", gold_prefers_chosen=0)], [1.0])["accuracy_noise_free"] == 0.0
    with pytest.raises(UserError, match="'gold_prefers_chosen' holds 'maybe': make it true or false"):
        accuracies([pair("a", gold_prefers_chosen="maybe")], [1.0])
