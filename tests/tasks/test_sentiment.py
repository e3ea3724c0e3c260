"""Reviews and their labels; how a review is divided is tested with the encoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.rows import BadRow, RawRow
from tasks.sentiment import TASK, clean, label_of, row, whole
from trlx.utils.errors import UserError

REVIEW = "A film about a lighthouse keeper who mends clocks. Slow, and worth every minute of it."


def labelled(label: Any) -> RawRow:
    return RawRow({"text": REVIEW, "label": label}, "x.jsonl, line 4")


def jsonl(folder: Path, *rows: Any) -> str:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("label", [1, 1.0, "1", "pos", "positive", " Positive ", "POS", True, "true"])
def test_positive(label: Any) -> None:
    assert label_of(labelled(label)) == 1


@pytest.mark.parametrize("label", [0, 0.0, "0", "neg", "negative", "Negative\n", False, "False"])
def test_negative(label: Any) -> None:
    assert label_of(labelled(label)) == 0


@pytest.mark.parametrize(
    "label, shown",
    [
        (2, "2"),
        (-1, "-1"),
        (0.5, "0.5"),
        (None, "None"),
        (float("nan"), "nan"),
        ("", "''"),
        ("neutral", "'neutral'"),
        ("LABEL_1", "'LABEL_1'"),
        ([1], "[1]"),
        ({"label": 1}, "{'label': 1}"),
        ("x" * 99, "'" + "x" * 39),
    ],
)
def test_any_other_label_is_refused(label: Any, shown: str) -> None:
    for attempt in (label_of, lambda raw: row(raw, "posts")):
        with pytest.raises(BadRow) as caught:
            attempt(labelled(label))
        assert str(caught.value) == (
            f"x.jsonl, line 4: a label that is neither positive nor negative ({shown}): make it 0 or 1 (negative or "
            "positive), drop the row, or pass --bad_rows skip"
        )


def test_a_review_becomes_a_prompt_that_is_yet_to_be_divided(tmp_path: Path) -> None:
    rows = [
        {"text": f" {REVIEW}<br /><br/>The end. ", "label": 1, "film": 7},
        {"text": REVIEW, "label": "neg"},
        {"text": REVIEW},
    ]
    first, second, third = TASK.load_posts(jsonl(tmp_path, *rows), None)
    assert first.prompt == first.post == f"{REVIEW}\n\nThe end."
    assert (first.summary, first.extra) == ("", {"positive": 1, "film": 7})
    assert (second.prompt, second.summary, second.extra) == (REVIEW, "", {"positive": 0})
    assert third.extra == {}


def test_columns_of_other_names(tmp_path: Path) -> None:
    data = jsonl(tmp_path, {"review": REVIEW, "sentiment": "positive"})
    (post,) = TASK.load_posts(data, None, columns={"text": "review", "label": "sentiment"})
    assert (post.prompt, post.extra) == (REVIEW, {"positive": 1})
    with pytest.raises(UserError, match=r"line 1: reviews need the columns text \(and label\) .*found review, sentim"):
        TASK.load_posts(data, None)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "'text' is empty"),
        (" \n", "'text' is empty"),
        (None, "'text' is empty (null)"),
        (3, "'text' is not text (a number)"),
        ("<br />", "the post is empty"),
        ("<|endoftext|>" + REVIEW, "the post is empty"),
    ],
)
def test_an_empty_review_is_refused_or_skipped(tmp_path: Path, text: Any, reason: str) -> None:
    data = jsonl(tmp_path, {"text": REVIEW, "label": 1}, {"text": text, "label": 0})
    with pytest.raises(UserError) as caught:
        TASK.load_posts(data, None)
    assert str(caught.value).startswith(f"{data}, line 2: {reason}: ")
    assert [post.prompt for post in TASK.load_posts(data, None, bad_rows="skip")] == [REVIEW]


def test_pairs_come_in_any_format(tmp_path: Path) -> None:
    pair = {"prompt": "A film about", "chosen": " clocks, and a joy.", "rejected": " clocks, and a bore.", "label": 9}
    ((found,), _) = TASK.load_pairs(jsonl(tmp_path, pair), None)
    assert (found.prompt, found.chosen, found.rejected) == (
        "A film about",
        "clocks, and a joy.",
        "clocks, and a bore.",
    )
    with pytest.raises(UserError, match="pairs need the columns"):
        TASK.load_pairs(jsonl(tmp_path, {"text": REVIEW, "label": 1}), None)


@pytest.mark.parametrize(
    "text, cleaned",
    [
        ("One.<br /><br />Two.", "One.\n\nTwo."),
        ("One.<br>Two.<br/>Three.<br  />", "One.\nTwo.\nThree."),
        ("a <b>bold</b> film", "a <b>bold</b> film"),
        ("  good <|endoftext|>bad", "good"),
        ("<br />", ""),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@given(st.lists(st.sampled_from(["<br />", "<br", "/>", ">", " ", "\n", "good", "<|endoftext|>"])).map("".join))
def test_cleaning_twice_changes_nothing_and_a_prompt_is_all_body(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert whole(text) == ("", clean(text), "", "start")


def test_a_long_prompt_is_cut_at_its_end(tokenizer: Any) -> None:
    kept = TASK.form.cut(REVIEW, tokenizer, 12)
    assert REVIEW.startswith(kept) and 0 < len(kept) < len(REVIEW)
