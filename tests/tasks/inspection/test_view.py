"""Samples as the models see them: the same ids as training makes, and texts that a terminal can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reward_model.encoding import encode_pair
from tasks.form import response_text
from tasks.inspection.view import example, view, visible
from tasks.records import Pair, Post
from tasks.text import TLDR
from trlx.utils.errors import UserError

BODY = "My sister lost the cat.\nShe found it in the garden.\nThe cat was lost again.\nMy sister found it again."


def test_posts_are_what_sft_trains_on(make_post: Callable[..., Post], tokenizer: Any) -> None:
    post = make_post(BODY, "My cat was lost")
    for max_length in (200, 60, 45):
        sample = TLDR.encode(tokenizer, post.prompt, post.summary, max_length)
        seen = view(TLDR, tokenizer, post, max_length)
        assert (seen.prompt_ids, seen.responses) == (sample.prompt_ids, (sample.response_ids,))
    assert len(view(TLDR, tokenizer, post, 45).prompt_ids) < len(view(TLDR, tokenizer, post, 200).prompt_ids)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(BODY.split()), min_size=5, max_size=60).map(" ".join),
    st.lists(st.sampled_from(BODY.split()), min_size=1, max_size=12).map(" ".join),
    st.lists(st.sampled_from(BODY.split()), min_size=1, max_size=12).map(" ".join),
    st.integers(30, 200),
)
def test_pairs_are_what_the_reward_model_reads(
    make_pair: Callable[..., Pair], tokenizer: Any, body: str, chosen: str, rejected: str, max_length: int
) -> None:
    pair = make_pair(body, chosen, rejected)
    try:
        seen = view(TLDR, tokenizer, pair, max_length)
    except UserError:
        return
    sides = encode_pair(tokenizer, pair.prompt, response_text(chosen), response_text(rejected), max_length, TLDR.cut)
    assert tuple(seen.prompt_ids + response for response in seen.responses) == sides


def test_a_pair_that_cannot_fit(make_pair: Callable[..., Pair], tokenizer: Any) -> None:
    pair = make_pair(BODY, "My cat", "My cat was lost in the garden and my sister found it again", "x.jsonl, line 3")
    with pytest.raises(UserError, match=r"x\.jsonl, line 3: a summary leaves no room for the prompt in 8 tokens"):
        view(TLDR, tokenizer, pair, 8)
    with pytest.raises(UserError, match="subreddit, title"):
        view(TLDR, tokenizer, pair, 35)


def test_an_example_shows_special_tokens_and_what_was_cut(make_post: Callable[..., Post], tokenizer: Any) -> None:
    post = make_post(BODY, "My cat was lost", "x.jsonl, line 1")
    whole = example(TLDR, tokenizer, "train", post, 300)
    assert whole.prompt == post.prompt
    assert whole.responses == (" My cat was lost<|endoftext|>",)
    assert whole.tokens == (
        len(tokenizer(post.prompt)["input_ids"]),
        len(tokenizer(" My cat was lost")["input_ids"]) + 1,
    )
    assert (whole.split, whole.where, whole.cut) == ("train", "x.jsonl, line 1", 0)
    cut = example(TLDR, tokenizer, "train", post, 50)
    assert cut.prompt.endswith("\nTL;DR:") and len(cut.prompt) < len(post.prompt)
    assert cut.cut == whole.tokens[0] - cut.tokens[0] > 0
    assert sum(cut.tokens) <= 50


def test_an_example_without_tokenizer(make_pair: Callable[..., Pair]) -> None:
    shown = example(TLDR, None, "train", make_pair("A cat ran", "it ran", "it sat"), 10)
    assert shown.responses == (" it ran<|endoftext|>", " it sat<|endoftext|>")
    assert (shown.tokens, shown.cut) == ((), 0)


def test_an_example_that_cannot_fit_says_so(make_post: Callable[..., Post], tokenizer: Any) -> None:
    shown = example(TLDR, tokenizer, "train", make_post(BODY, "My cat was lost"), 5)
    assert "max_length 5" in shown.note and shown.tokens == ()


def test_control_characters_are_shown_not_obeyed() -> None:
    assert visible("a\nb\tc\x1b[31mred\r\x07") == "a⏎\nb\\tc\\x1b[31mred\\r\\x07"
    assert visible("\ud800\u202eabc") == "\\ud800\\u202eabc"
    assert visible("x" * 6001) == "x" * 3000 + " [... 1 characters ...] " + "x" * 3000
