"""Encoding and batching of pairs, worked by hand on a tokenizer whose tokens are single letters."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from reward_model.encoding import encode, encode_pair, prompt_ids, right_pad
from reward_model.pairs import PairCollator, encode_pairs
from trlx.utils.errors import UserError

EOS = 0


class Letters:
    """One token a character: its code point."""

    eos_token_id = EOS

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def codes(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_ended_responses_end_in_eos_and_cut_ones_do_not() -> None:
    assert encode(Letters(), "ab", " c", True, 9) == [*codes("ab c"), EOS]
    assert encode(Letters(), "ab", " c", False, 9) == codes("ab c")


def test_a_long_prompt_loses_the_end_of_its_post() -> None:
    prompt = "HEAD post post" + "\nTL;DR:"
    assert prompt_ids(Letters(), prompt, 12) == codes("HEAD " + "\nTL;DR:")
    assert prompt_ids(Letters(), prompt, len(prompt)) == codes(prompt)
    assert prompt_ids(Letters(), prompt, 3) == codes("DR:")
    assert prompt_ids(Letters(), prompt, 0) == []


def test_the_tasks_way_of_cutting_is_asked_first() -> None:
    assert prompt_ids(Letters(), "abcdef", 3, lambda prompt, tokenizer, room: "xyz"[:room]) == codes("xyz")

    def cannot(prompt: str, tokenizer: Any, room: int) -> str:
        raise UserError("too long")

    assert prompt_ids(Letters(), "abcdef", 3, cannot) == codes("abc")


def test_a_response_longer_than_everything_loses_its_end() -> None:
    assert encode(Letters(), "ab", " cdefgh", True, 4) == codes(" cde")


def test_both_sides_of_a_pair_keep_the_same_prompt() -> None:
    chosen, rejected = encode_pair(Letters(), "abcdefgh", " x", " longer", 12)
    # the longer side needs 7 + EOS, so 4 tokens of the prompt fit
    assert chosen == [*codes("abcd x"), EOS]
    assert rejected == [*codes("abcd longer"), EOS]
    assert len(rejected) == 12


def test_pairs_batch_as_chosen_rows_then_rejected_rows() -> None:
    pairs = [
        SimpleNamespace(prompt="a", chosen="b", rejected="cd", extra={"gold_prefers_chosen": False}),
        SimpleNamespace(prompt="e", chosen="fgh", rejected="i", extra={}),
    ]
    items, lengths = encode_pairs(pairs, Letters(), 20)
    assert lengths == [5, 6]
    batch = PairCollator(pad_token_id=7)([{**item, "row": 10 + n} for n, item in enumerate(items)])
    assert batch["input_ids"].tolist() == [
        [*codes("a b"), EOS, 7, 7],
        [*codes("e fgh"), EOS],
        [*codes("a cd"), EOS, 7],
        [*codes("e i"), EOS, 7, 7],
    ]
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 6, 5, 4]
    assert batch["gold"][0] == 0.0 and math.isnan(batch["gold"][1])
    assert batch["rows"].tolist() == [10, 11]


@pytest.mark.parametrize("rows", [[[1], [2, 3]], [[1, 7, 7], [2]]])
def test_right_pad_masks_by_length_not_by_id(rows: list[list[int]]) -> None:
    ids, mask = right_pad(rows, 7)
    assert [ids[i][: len(row)].tolist() for i, row in enumerate(rows)] == rows
    assert mask.sum(dim=1).tolist() == [len(row) for row in rows]
