"""Reviews divided into prompt and response, by their own text alone."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tasks.encoding import cut_prompts, divided
from tasks.encoding.dividing import TOO_SHORT, shortened
from tasks.form import token_ids
from tasks.reading.rows import Skipped
from tasks.records import Post
from tasks.scratch_model import train_tokenizer
from tasks.sentiment import FORM, MIN_CHARACTERS, PROMPT_TOKENS, divide
from tasks.text import TLDR
from trlx.utils.errors import UserError

WORDS = [
    "the",
    "film",
    "was",
    "good",
    "bad.",
    "awful!",
    "I",
    "really",
    "liked",
    "it.",
    "incomprehensibilities",
    "é…",
    "\n",
]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=120).map(" ".join).map(str.strip).filter(bool)
rooms = st.integers(-2, 60)


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the film was good. I really liked it."] * 20, 300, 512)


def count(text: str) -> int:
    return len(token_ids(tokenizer(), text))


def review(text: str, where: str = "reviews.jsonl, line 1") -> Post:
    return Post("a", text, "", where=where)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_a_divided_text_is_the_text(text: str) -> None:
    parts = divide(text, count)
    if parts is None:
        first = re.findall(r"\S+", text)[: PROMPT_TOKENS[1]]
        assert len(text) <= MIN_CHARACTERS or not any(
            PROMPT_TOKENS[0] <= count(" ".join(first[:n])) <= PROMPT_TOKENS[1] for n in range(len(first))
        )
        return
    assert PROMPT_TOKENS[0] <= count(parts.prompt) <= PROMPT_TOKENS[1]
    assert text.startswith(parts.prompt) and text[len(parts.prompt) :].strip() == parts.response
    assert text[len(parts.prompt) :][:1].isspace() or not parts.response  # at the end of a word
    assert divide(text, count) == parts


@given(texts, rooms)
@settings(max_examples=300, deadline=None)
def test_what_is_left_of_a_response_fits_and_ends_with_a_word(text: str, room: int) -> None:
    left = shortened(text, tokenizer(), room)
    assert text.startswith(left)
    assert not left or count(" " + left) <= room
    assert not left or left == text or text[len(left)].isspace()
    if count(" " + text) <= room:
        assert left == text
    elif not left:  # not even the first word fits
        first = re.match(r"\s*\S+", text)
        assert first is not None and count(" " + first.group()) > room


def test_shortened_by_hand() -> None:
    """One token a character beyond the words that the tokenizer knows; the room is told in tokens of each start."""
    text = "It was good. I really liked it. The film was good."
    sentences = [len("It was good."), len("It was good. I really liked it.")]
    rooms = [count(" " + text[:end]) for end in sentences]
    assert shortened(text, tokenizer(), rooms[1]) == text[: sentences[1]]
    assert shortened(text, tokenizer(), rooms[1] - 1) in (text[: sentences[0]], "It was good. I really liked")
    assert shortened(text, tokenizer(), count(" It was")) == "It was"
    long = "good " * 50 + "end."
    assert (
        shortened("No. " + long, tokenizer(), count(" No." + " good" * 9)) == "No." + " good" * 9
    )  # "No." is too little
    assert shortened(text, tokenizer(), 0) == ""


def test_the_lengths_of_prompts_differ_from_review_to_review() -> None:
    texts = [f"The {number} film was good and I really liked it a lot. " * 6 for number in range(60)]
    lengths = {count(parts.prompt) for text in texts if (parts := divide(text, count))}
    assert min(lengths) <= 9 and max(lengths) >= 15 and len(lengths) >= 5


def test_short_reviews_are_told_and_never_stop_the_reading() -> None:
    left_out = Skipped()
    posts = [
        review("Short.", "x, line 1"),
        review("The film was good. " * 20, "x, line 2"),
        review("Also.", "x, line 3"),
    ]
    found = list(divided(posts, FORM, tokenizer(), left_out))
    assert [post.where for post in found] == ["x, line 2"]
    assert found[0].prompt + " " + found[0].summary == posts[1].prompt.strip()
    assert str(left_out) == f"2 rows skipped: 2 {TOO_SHORT} (first: x, line 1)"


@pytest.mark.parametrize(
    "limits", [{"max_length": 30}, {"response_tokens": 10}, {"max_length": 24, "response_tokens": 20}]
)
def test_a_divided_post_keeps_its_limits(limits: dict[str, int]) -> None:
    (found,) = divided([review("The film was good. I really liked it. " * 9)], FORM, tokenizer(), Skipped(), **limits)
    response = count(" " + found.summary) + 1
    assert response <= limits.get("response_tokens", 99)
    assert count(found.prompt) + response <= limits.get("max_length", 99)


def test_texts_that_are_divided_already_stay_as_they_are() -> None:
    known = Post("a", "The film", "was good.")
    plain = Post("b", "SUBREDDIT: r/x\nPOST: p\nTL;DR:", "")
    assert list(divided([known], FORM, tokenizer(), Skipped())) == [known]
    assert list(divided([plain], TLDR, tokenizer(), Skipped())) == [plain]


def test_prompts_are_divided_before_they_are_cut(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    posts = [review("Too short."), review("The film was good. I really liked it. " * 9)]
    found: Any = cut_prompts(posts, FORM, tokenizer(), 40, response_tokens=12)
    assert len(found) == 1 and found[0].prompt == divide(posts[1].prompt, count)[0]  # type: ignore[index]
    assert 0 < count(" " + found[0].summary) + 1 <= 12


def test_nothing_but_short_reviews_is_refused() -> None:
    with pytest.raises(UserError, match=r"^no text is left: 1 rows skipped: .*\(first: reviews\.jsonl, line 1\): give"):
        cut_prompts([review("Short.")], FORM, tokenizer(), 40)
