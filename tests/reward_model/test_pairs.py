"""Encoding and batching of pairs, worked by hand on a tokenizer whose tokens are single letters."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from reward_model.encoding import encode, encode_pair, prompt_ids, right_pad
from reward_model.pairs import PairCollator, encode_pairs
from trlx.pipeline.quick_cut import CutPrompt
from trlx.utils.errors import UserError

EOS = 0


class Letters:
    """One token a character: its code point."""

    eos_token_id = EOS

    def __call__(self, text: str, add_special_tokens: bool = False, verbose: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def get_vocab(self) -> dict[str, int]:
        return {chr(code): code for code in range(128)}


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
    assert lengths.tolist() == [5, 6]
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


def bytewise() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.train_from_iterator(
        ["The cat was in the garden.\nTL;DR: It came back."] * 5,
        trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<e>"]
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<e>")


def keep_lines(prompt: str, tokenizer: Any, room: int) -> str:
    """A way of cutting: whole lines before the closing one, as many as fit."""
    *lines, last = prompt.split("\n")
    for count in range(len(lines), 0, -1):
        text = "\n".join([*lines[:count], last])
        if len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= room:
            return text
    raise UserError("too long")


FAST = bytewise()
texts = st.text(alphabet="The cat\n.é🐈", max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    drawn=st.lists(st.tuples(texts, texts, texts, st.booleans()), min_size=1, max_size=5),
    max_length=st.integers(min_value=1, max_value=70),
    cut=st.sampled_from([None, keep_lines]),
)
def test_many_pairs_at_once_are_as_one_at_a_time(
    drawn: list[tuple[str, str, str, bool]], max_length: int, cut: CutPrompt | None
) -> None:
    pairs = [
        SimpleNamespace(prompt=prompt + ("\nTL;DR:" if closed else ""), chosen=chosen, rejected=rejected, extra={})
        for prompt, chosen, rejected, closed in drawn
    ]
    items, lengths = encode_pairs(pairs, FAST, max_length, cut)
    wanted = [encode_pair(FAST, p.prompt, " " + p.chosen, " " + p.rejected, max_length, cut) for p in pairs]
    assert [(item["chosen_ids"], item["rejected_ids"]) for item in items] == wanted
    assert lengths.tolist() == [max(len(chosen), len(rejected)) for chosen, rejected in wanted]


def test_pairs_are_not_read_again_when_the_cache_has_them(tmp_path: Path) -> None:
    pair = SimpleNamespace(prompt="The cat\nTL;DR:", chosen="was", rejected="is", extra={"gold_prefers_chosen": True})

    def encoded(pairs: Iterable[Any], max_length: int = 60, data: str = "a") -> tuple[Any, ...]:
        options: dict[str, Any] = {"made_from": {"data": data}, "notes": lambda: {"dropped": 2}}
        return encode_pairs(pairs, FAST, max_length, cache=tmp_path, **options)

    def unread() -> Iterator[Any]:
        raise AssertionError("read again")
        yield

    first, lengths = encoded([pair])
    again, same = encoded(unread())
    assert list(first) == list(again) and lengths.tolist() == same.tolist()
    assert again.store.notes == {"dropped": 2} and again[0]["gold"] == 1.0
    for other in ({"max_length": 61}, {"data": "b"}):
        with pytest.raises(AssertionError, match="read again"):
            encoded(unread(), **other)
