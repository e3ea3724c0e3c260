"""Summaries without a model, from prompts with and without title and post."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.baselines import BASELINES, baseline_summaries, why_left_out
from tasks.text import format_article, format_post


def one(name: str, prompt: str) -> str | None:
    return baseline_summaries(name, [prompt])[0]


def test_names() -> None:
    assert tuple(BASELINES) == ("title", "first_sentence", "first_30_words")
    with pytest.raises(KeyError):
        baseline_summaries("last_sentence", [])


def test_title() -> None:
    assert one("title", format_post("r/help", " My  dog\nran away ", "TITLE: no\nIt ran.")) == "My dog ran away"
    assert one("title", format_post("help", "", "TITLE: no")) is None
    assert one("title", "SUBREDDIT: r/x\nTITLE: \nPOST: It ran.\nTL;DR:") is None
    assert one("title", "SUBREDDIT: r/x\n\nTITLE: With blank lines\n\nPOST: It ran.\n\nTL;DR:") == "With blank lines"
    assert one("title", format_article("TITLE: of an article")) is None


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ("My dog ran away. It came back.", "My dog ran away."),
        ("My dog ran away", "My dog ran away"),
        ('She said "it is over!" Then she left.', 'She said "it is over!"'),
        ("It cost 3.50 at shop.com today... I paid.", "It cost 3.50 at shop.com today..."),
        # A greeting and an abbreviation are too short to be one.
        ("Hi all! My dog ran away. Help.", "Hi all! My dog ran away."),
        ("Dr. Smith saw him. He is fine.", "Dr. Smith saw him."),
        # A line ends one too, unless what stands there is too short.
        ("My dog ran away\n\nIt came back", "My dog ran away"),
        ("Hello,\nmy dog ran away.\nHelp.", "Hello, my dog ran away."),
        ("Help!", "Help!"),
        ("今日は犬と散歩した。楽しかった。", "今日は犬と散歩した。"),
        ("Где мои ключи? Я не знаю.", "Где мои ключи?"),
        ("هل رأيت كلبي اليوم؟ لا أعرف.", "هل رأيت كلبي اليوم؟"),
    ],
)
def test_first_sentence(post: str, expected: str) -> None:
    assert one("first_sentence", format_post("x", "t", post)) == expected


def test_first_30_words() -> None:
    words = [f"w{i}" for i in range(35)]
    assert one("first_30_words", format_post("x", "t", "\n ".join(words))) == " ".join(words[:30])
    assert one("first_30_words", format_post("x", "t", "a  b\nc")) == "a b c"
    assert one("first_30_words", format_article("a b")) == "a b"


def test_nothing_to_take_is_said() -> None:
    prompts = [format_post("x", "", "One two three."), format_post("x", "t", ""), "TL;DR:"]
    assert baseline_summaries("title", prompts) == [None, "t", None]
    assert baseline_summaries("first_sentence", prompts) == ["One two three.", None, None]
    assert why_left_out("title", [None, "t", None]) == "baseline title left out: 2 of 3 posts have no title"
    assert why_left_out("first_30_words", ["a", None]) == "baseline first_30_words left out: 1 of 2 posts have no text"
    assert why_left_out("title", ["a", "b"]) is None


@given(st.text())
def test_any_post_gives_its_own_beginning(post: str) -> None:
    prompt = format_post("x", "t", post)
    body = "".join(prompt.removeprefix("SUBREDDIT: r/x\nTITLE: t\nPOST: ").removesuffix("TL;DR:").split())
    for name in ("first_sentence", "first_30_words"):
        found = one(name, prompt)
        assert found is None or body.startswith("".join(found.split()))
