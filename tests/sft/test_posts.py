"""Posts as SFT reads them, with the cache: read once, and the same rows and counts when they are found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_stage import tiny_tokenizer

from sft.posts import encode_posts
from tasks.records import Post
from tasks.text import TLDR
from trlx.utils.errors import UserError

POSTS = [
    Post("a", "SUBREDDIT: r/x\nTITLE: t\nPOST: " + "p " * 200 + "\nTL;DR:", "short", where="x.jsonl, line 1"),
    Post("b", "POST: p\nTL;DR:", "word " * 200, where="x.jsonl, line 2"),
    Post("c", "POST: Somebody did it.\nTL;DR:", "did it", where="x.jsonl, line 3"),
]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return tiny_tokenizer(tmp_path / "tokenizer")


def unread() -> Iterator[Post]:
    raise AssertionError("read again")
    yield


def test_rows_are_samples_in_order(tokenizer: Any) -> None:
    rows, left_out = encode_posts(POSTS, TLDR, tokenizer, 64)
    samples = [TLDR.encode(tokenizer, post.prompt, post.summary, 64) for post in (POSTS[0], POSTS[2])]
    assert left_out == 1
    assert [rows[index] for index in range(len(rows))] == [
        {"prompt_ids": sample.prompt_ids, "response_ids": sample.response_ids, "row": row}
        for row, sample in enumerate(samples)
    ]
    assert list(rows.lengths) == [len(sample.prompt_ids) + len(sample.response_ids) for sample in samples]


def test_the_cache_gives_rows_counts_and_notes_without_the_posts(tokenizer: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"cache": tmp_path / "cache", "made_from": {"data": "a"}}
    first, left_out = encode_posts(iter(POSTS), TLDR, tokenizer, 64, **options, notes=lambda: {"skipped": "3 rows"})
    again, same = encode_posts(unread(), TLDR, tokenizer, 64, **options)
    assert left_out == same == 1
    assert [first[index] for index in range(2)] == [again[index] for index in range(2)]
    assert again.items.notes["skipped"] == "3 rows"  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", ["max_length", "data", "tokenizer"])
def test_what_changes_the_ids_is_encoded_anew(change: str, tokenizer: Any, tmp_path: Path) -> None:
    encode_posts(POSTS, TLDR, tokenizer, 64, cache=tmp_path, made_from={"data": "a"})
    if change == "tokenizer":
        tokenizer.add_tokens(["Somebody"])
    made_from = {"data": "b" if change == "data" else "a"}
    with pytest.raises(AssertionError, match="read again"):
        encode_posts(
            unread(), TLDR, tokenizer, 65 if change == "max_length" else 64, cache=tmp_path, made_from=made_from
        )


def test_none_that_fits_says_why_and_leaves_no_store(tokenizer: Any, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=r"none of 1 posts can be trained on: x\.jsonl, line 2: a response of"):
            encode_posts(POSTS[1:2], TLDR, tokenizer, 64, cache=tmp_path / "c", made_from={})
    assert not [path for path in (tmp_path / "c").iterdir() if path.is_dir()]
