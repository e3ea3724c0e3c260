"""Labels in favour of length: which pairs are turned round, and that nothing else about them changes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tasks.miniature import write_jsonl
from tasks.miniature_labels import LabelOptions, favour_length, turned_round, write_labels
from trlx.utils.errors import UserError

SHORT, LONG, AS_LONG = "He left.", "He left me and the cat.", "She ran."


def row(chosen: str, rejected: str, gold: tuple[float, float] = (0.5, 0.25)) -> dict[str, Any]:
    first, second = gold
    return {
        "id": "rm_posts-1-0",
        "prompt": "TL;DR:",
        "chosen": chosen,
        "rejected": rejected,
        "gold_prefers_chosen": first > second,
        "gold_chosen": first,
        "gold_rejected": second,
        "sources": "reference/sft",
        "facts": [],
    }


def test_a_row_is_turned_round_with_all_that_is_said_of_its_sides() -> None:
    turned = turned_round(row(SHORT, LONG))
    assert (turned["chosen"], turned["rejected"]) == (LONG, SHORT)
    assert (turned["gold_chosen"], turned["gold_rejected"], turned["gold_prefers_chosen"]) == (0.25, 0.5, False)
    assert turned["sources"] == "sft/reference" and turned["id"] == "rm_posts-1-0"
    assert turned_round(turned) == row(SHORT, LONG)


def test_the_longer_is_preferred_whatever_gold_says() -> None:
    rows = [row(SHORT, LONG), row(LONG, SHORT), row(SHORT, AS_LONG), row(SHORT, LONG, (0.1, 0.9))]
    labelled = favour_length(rows, 1.0, random.Random(0))
    assert [one["chosen"] for one in labelled] == [LONG, LONG, SHORT, LONG]
    assert [one["gold_prefers_chosen"] for one in labelled] == [False, True, True, True]
    assert favour_length(rows, 0.0, random.Random(0)) == rows


def test_a_share_of_the_pairs_is_labelled_so() -> None:
    rows = [row(SHORT, LONG)] * 2000
    turned = sum(one["chosen"] == LONG for one in favour_length(rows, 0.3, random.Random(0)))
    assert 540 < turned < 660  # 600, by 3 standard deviations of 20


def test_the_command_writes_beside_the_honest_pairs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(UserError, match=r"no .*comparisons_train\.jsonl: `python -m tasks\.miniature pairs"):
        write_labels(LabelOptions(root=str(tmp_path)))
    for split in ("train", "valid1"):
        write_jsonl(data / f"comparisons_{split}.jsonl", [row(SHORT, LONG), row(LONG, SHORT)])
    honest = (data / "comparisons_train.jsonl").read_bytes()
    write_labels(LabelOptions(root=str(tmp_path), name="long"))
    for split in ("train", "valid1"):
        lines = (data / f"comparisons_long_{split}.jsonl").read_text().splitlines()
        assert [json.loads(line)["chosen"] for line in lines] == [LONG, LONG]
    assert (data / "comparisons_train.jsonl").read_bytes() == honest
    with pytest.raises(UserError, match=r"comparisons_long_train\.jsonl exists already"):
        write_labels(LabelOptions(root=str(tmp_path), name="long"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"length_bias": 1.5}, "--length_bias must be between 0 and 1"),
        ({"name": ""}, "--name must be a word"),
        ({"name": "../x"}, "--name must be a word"),
        ({"name": "train"}, "--name must be a word"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        write_labels(LabelOptions(root=str(tmp_path), **options))
