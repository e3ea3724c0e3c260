from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.records import Pair, PairCounts, Post
from tasks.registry import get_task
from tasks.text import PROMPT_END
from tasks.tldr import load_pairs, load_posts
from trlx.utils.errors import UserError

Shared = Callable[[str], Path]


def jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_prompt_and_label(tmp_path: Path) -> None:
    row = {
        "prompt": "SUBREDDIT: r/a\nTITLE: b\nPOST: c d\nTL;DR: ",
        "label": " e.",
        "id": 7,
        "facts": {"f": ["g"]},
    }
    (post,) = load_posts(jsonl(tmp_path / "x.jsonl", row), "train")
    assert post == Post(
        id="7",
        prompt="SUBREDDIT: r/a\nTITLE: b\nPOST: c d\nTL;DR:",
        summary="e.",
        post="c d",
        extra={"facts": {"f": ["g"]}},
    )


def test_raw_posts_get_ids_and_are_truncated(tmp_path: Path, tokenizer: Any) -> None:
    row = {
        "subreddit": "pets",
        "title": "t",
        "post": "The cat.\nThe garden again and again.",
        "summary": "TL;DR: s",
    }
    source = jsonl(tmp_path / "x.jsonl", row, row)
    whole = load_posts(source, "train")[0].prompt
    room = len(tokenizer(whole)["input_ids"]) - 1
    first, second = load_posts(source, "train", max_prompt_tokens=room, tokenizer=tokenizer)
    assert (first.id, second.id) == ("train-1", "train-2")
    assert first.prompt == "SUBREDDIT: r/pets\nTITLE: t\nPOST: The cat.\nTL;DR:"
    assert (first.summary, first.post) == ("s", row["post"])
    assert len(load_posts(source, "train", limit=1)) == 1


def test_pairs_are_cleaned_and_counted(tmp_path: Path) -> None:
    def row(chosen: str, rejected: str) -> dict[str, str]:
        return {"prompt": "POST: p", "chosen": chosen, "rejected": rejected, "note": "n"}

    source = jsonl(
        tmp_path / "x.jsonl",
        row("TL;DR:  one two three four five", "TL;DR: five four three two one<|endoftext|>junk"),
        row("TL;DR: one two three four five", "one two three four five<|endoftext|>"),
        row("TL;DR: one two three four", "one two three four five"),
    )
    pairs, counts = load_pairs(source, "valid1")
    expected = Pair("valid1-1", "POST: p\nTL;DR:", "one two three four five", "five four three two one", {"note": "n"})
    assert pairs == [expected]
    assert counts == PairCounts(total=3, kept=1, identical=1, short=1)
    assert str(counts) == "1 of 3 pairs kept; dropped: 1 identical, 1 under 5 words"


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"prompt": "p"}], "columns prompt.label or subreddit.title.post.summary are needed, found prompt"),
        ([{"prompt": "p", "label": "a"}, {"prompt": "q"}], "row 2: column 'label' holds nothing"),
        ([{"prompt": 3, "label": "a"}], "row 1: column 'prompt' holds a int"),
        ([{"prompt": "p", "label": "a", "id": 1}] * 2, "rows 1 and 2: the same id '1'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_posts(jsonl(tmp_path / "x.jsonl", *rows), "train")


def test_a_split_without_usable_pairs_is_an_error(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(UserError, match=r"no usable pair .0 of 1 pairs kept"):
        load_pairs(source, "train")
    with pytest.raises(UserError, match="limit must be at least 1"):
        load_pairs(source, "train", limit=0)


def test_tasks_by_name() -> None:
    assert get_task("tldr").gold_score is None
    assert get_task("miniature").gold_score is not None
    with pytest.raises(UserError, match="did you mean 'tldr'"):
        get_task("tdlr")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_real_tldr_rows(shared: Shared, split: str) -> None:
    posts = load_posts(str(shared("openai_summarize_fixture") / "tldr"), split)
    assert len(posts) == 50
    assert all(post.prompt.endswith("\n" + PROMPT_END) and post.post and post.summary for post in posts)
    assert all(post.prompt.count("\nTITLE: ") == 1 for post in posts)


@pytest.mark.parametrize("split", ["train", "valid1", "valid2", "test"])
def test_real_comparisons_lose_prefix_and_stray_tails(shared: Shared, split: str) -> None:
    pairs, counts = load_pairs(str(shared("openai_summarize_fixture") / "comparisons"), split)
    assert counts.total == 50 and counts.kept == len(pairs)
    for pair in pairs:
        assert pair.prompt.endswith("\n" + PROMPT_END)
        for text in (pair.chosen, pair.rejected):
            assert "TL;DR" not in text and "<|endoftext|>" not in text and "Citizens for" not in text


def test_real_raw_posts(shared: Shared) -> None:
    posts = load_posts(str(shared("reddit_tldr_2013")), "valid", limit=200)
    assert len(posts) == 200 and posts[0].id == "t3_1aw2sv"
    assert posts[0].prompt.startswith("SUBREDDIT: r/24hoursupport\nTITLE: Turtle Beach X12 bass pops")
    assert "created_utc" in posts[0].extra
