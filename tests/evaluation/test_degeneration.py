"""Each fault on texts that have it and on their nearest neighbours that have not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.degeneration import FAULTS, Faults, fault_shares, faults, words

POST = "My landlord kept the deposit, and now he says that I never paid it. What should I do?"
TITLE = "Landlord kept my deposit"


def names(text: str, ended: bool = True, post: str = POST, title: str = TITLE) -> tuple[str, ...]:
    return faults(text, ended, post, title).names


def test_a_good_summary_has_none() -> None:
    assert faults("Landlord denies that the deposit was paid.", True, POST, TITLE) == Faults(*[False] * 5)


@pytest.mark.parametrize("text", ["", " \n\t", "...", ":) :) :)", "👍🏽 👍", "\u200b", "—", "__"])
def test_empty(text: str) -> None:
    assert names(text) == ("empty",)
    assert names(text, ended=False) == ("empty", "no_eos")


@pytest.mark.parametrize("text", ["no", "5", "да", "犬", "हाँ", "…so?"])
def test_a_word_or_digit_of_any_script_is_not_empty(text: str) -> None:
    assert names(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "he says he says he says he says",  # "he says he says" at words 1, 3 and 5
        "ha ha ha ha ha ha",  # overlapping
        "I am so sad, and I am so sad, but I am so sad",
        "We broke up. I am fine. We broke up!",
        "He left me\nhe left me",
        "Я потерял ключи. Я ПОТЕРЯЛ КЛЮЧИ!",
        "I lost it。I lost it。",
        "cafe\u0301 is now closed. CAFÉ is now closed.",  # the accent apart and as one letter
    ],
)
def test_repeats(text: str) -> None:
    assert names(text) == ("repeats",)


@pytest.mark.parametrize(
    "text",
    [
        "ha ha ha ha ha",  # its four words only twice
        "I am so sad, and I am so sad",
        "No. No. Oh no. Oh no.",  # short sentences
        "We broke up. We broke it.",
    ],
)
def test_does_not_repeat(text: str) -> None:
    assert names(text) == ()


@pytest.mark.parametrize(
    ("text", "ended", "copied"),
    [
        ("my LANDLORD kept the deposit — and now he!", True, True),  # 8 words
        ("My landlord kept the deposit, and now", True, False),  # 7
        ("My landlord kept the deposit, and now she", True, False),
        ("Landlord kept the deposit, and now he says that", True, False),  # not the first words
        (POST, True, True),
        (POST + " Help me.", True, False),  # goes on beyond the post
        ("My landlord kept the deposit, and now he says th", False, True),  # cut by the limit within a word
        ("My landlord kept the deposit, and now he says th", True, False),
        ("My landlord kept the deposit, and now he says no", False, False),
    ],
)
def test_copied_lead(text: str, ended: bool, copied: bool) -> None:
    assert faults(text, ended, POST, TITLE).copied_lead is copied


@pytest.mark.parametrize(
    ("text", "title", "copied"),
    [
        ("landlord kept my deposit!", TITLE, True),
        ("Landlord kept my deposit and I am sad", TITLE, True),
        ("Landlord kept my", TITLE, False),
        ("My landlord kept my deposit", TITLE, False),
        ("Help", "HELP!!", True),
        ("Help me", "Help", False),  # begins with a title of less than four words
        ("Ich muß gehen", "ICH MUSS GEHEN", True),  # case folding
        ("ＡＢＣ", "abc", True),  # full width
        ("犬を見た", "犬を見た!", True),
        ("anything", "", False),
        ("", "", False),
        ("!", "?", False),
    ],
)
def test_copied_title(text: str, title: str, copied: bool) -> None:
    assert faults(text, True, POST, title).copied_title is copied


def test_an_empty_post_is_copied_by_nothing() -> None:
    assert names("one two three four five six seven eight", post="", title="") == ()


def test_several_at_once_in_a_fixed_order() -> None:
    post = "go on " * 10
    assert names("go on " * 5, ended=False, post=post, title="Go on go on") == FAULTS[1:]


def test_shares() -> None:
    found = [faults("", False, "", ""), faults("fine", True, "", ""), faults("fine", False, "", "")]
    shares = fault_shares(found)
    assert tuple(shares) == FAULTS == ("empty", "no_eos", "repeats", "copied_lead", "copied_title")
    assert [round(share.mean, 3) for share in shares.values()] == [0.333, 0.667, 0, 0, 0]
    assert shares["repeats"].high == pytest.approx(1.959964**2 / (3 + 1.959964**2))  # none of three is not never
    with pytest.raises(ValueError, match="no share"):
        fault_shares([])


@given(st.text(), st.text(), st.text(), st.booleans())
def test_any_text(text: str, post: str, title: str, ended: bool) -> None:
    found = faults(text, ended, post, title)
    assert found.no_eos is not ended
    assert found.empty == (not words(text))
    assert not (found.empty and (found.repeats or found.copied_lead or found.copied_title))
    assert faults(f"  {text.upper().lower()}", ended, post, title).no_eos == found.no_eos
    if words(post):
        assert faults(post, ended, post, post).copied_title
        assert faults(post, ended, post, title).copied_lead == (len(words(post)) >= 8)
