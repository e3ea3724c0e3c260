from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.reading.rows import Skipped
from tasks.records import Pair, PairCounts, Post
from tasks.registry import get_task
from tasks.text import PROMPT_END
from tasks.tldr import TASK
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
    (post,) = TASK.load_posts(jsonl(tmp_path / "x.jsonl", row), "train")
    assert post == Post(
        id="7",
        prompt="SUBREDDIT: r/a\nTITLE: b\nPOST: c d\nTL;DR:",
        summary="e.",
        post="c d",
        extra={"facts": {"f": ["g"]}},
    )


def test_raw_posts_get_ids_and_remember_their_line(tmp_path: Path) -> None:
    row = {
        "subreddit": "pets",
        "title": "t",
        "post": "The cat.\nThe garden again and again.",
        "summary": "TL;DR: s",
    }
    source = jsonl(tmp_path / "x.jsonl", row, row)
    first, second = TASK.load_posts(source, "train")
    assert (first.id, second.id) == ("train-1", "train-2")
    assert (first.where, second.where) == (f"{source}, line 1", f"{source}, line 2")
    assert first.prompt == "SUBREDDIT: r/pets\nTITLE: t\nPOST: The cat.\nThe garden again and again.\nTL;DR:"
    assert (first.summary, first.post) == ("s", row["post"])
    assert len(TASK.load_posts(source, "train", limit=1)) == 1


def test_columns_of_other_names(tmp_path: Path) -> None:
    row = {"meta": {"head": "t", "key": "k1"}, "body": "A post.", "tldr": "s", "stars": 3}
    columns = {"id": "meta.key", "title": "meta.head", "post": "body", "summary": "tldr"}
    (post,) = TASK.load_posts(jsonl(tmp_path / "x.jsonl", row), "train", columns=columns)
    assert (post.id, post.prompt, post.summary) == ("k1", "TITLE: t\nPOST: A post.\nTL;DR:", "s")
    assert post.extra["stars"] == 3
    with pytest.raises(UserError, match=r"--columns: 'sumary' .*did you mean 'summary'"):
        TASK.load_posts(str(tmp_path / "x.jsonl"), "train", columns={"sumary": "tldr"})


def test_mapped_columns_are_used_beside_those_of_another_format(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "completion": "c", "body": "A post.", "tldr": "s"})
    (post,) = TASK.load_posts(source, None, columns={"post": "body", "summary": "tldr"})
    assert (post.prompt, post.summary, post.extra) == ("POST: A post.\nTL;DR:", "s", {"prompt": "p", "completion": "c"})
    (post,) = TASK.load_posts(source, None, columns={"split": ""})
    assert (post.prompt, post.summary) == ("p\nTL;DR:", "c")


def test_rows_of_two_formats_in_one_file(tmp_path: Path) -> None:
    sides = {"chosen": "q one two three four five", "rejected": "q six seven eight nine ten"}
    source = jsonl(tmp_path / "x.jsonl", sides, {"prompt": "Why?", **sides}, sides)
    pairs, _ = TASK.load_pairs(source, None)
    assert [pair.prompt for pair in pairs] == ["q\nTL;DR:", "Why?\nTL;DR:", "q\nTL;DR:"]
    assert [pair.chosen for pair in pairs] == [sides["chosen"][2:], sides["chosen"], sides["chosen"][2:]]
    lost = jsonl(tmp_path / "y.jsonl", {"prompt": "Why?", **sides}, sides)
    with pytest.raises(UserError, match=r"line 2: no column 'prompt' \(columns: chosen, rejected\)"):
        TASK.load_pairs(lost, None)
    posts = jsonl(tmp_path / "z.jsonl", {"post": "a", "summary": "b"}, {"prompt": "c", "label": "d", "title": "t"})
    assert [(post.post, post.summary) for post in TASK.load_posts(posts, None)] == [("a", "b"), ("c", "d")]


def test_an_id_of_the_data_is_no_reason_to_refuse_a_row_without(tmp_path: Path) -> None:
    row = {"prompt": "p", "label": "a"}
    rows = [{**row, "id": "row-2"}, row, {**row, "id": "row-4"}, {**row, "id": "row-5"}, row]
    posts = TASK.load_posts(jsonl(tmp_path / "x.jsonl", *rows), None)
    assert [post.id for post in posts] == ["row-2", "row-2-2", "row-4", "row-5", "row-5-2"]


def test_one_post_at_a_time(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "label": "a"}, {"prompt": "p"})
    posts = TASK.iter_posts(source, None)
    assert next(posts).id == "row-1"  # before the second row is looked at
    with pytest.raises(UserError, match="line 2: no column 'label'"):
        next(posts)


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = {"prompt": "p", "label": "a", "id": 1}
    rows = [good, {**good, "label": "TL;DR: "}, {**good, "id": 2, "prompt": "TL;DR:"}, good, {**good, "label": " "}]
    source = jsonl(tmp_path / "x.jsonl", *rows)
    skipped = Skipped()
    assert [post.id for post in TASK.iter_posts(source, None, on_bad=skipped)] == ["1"]
    assert skipped.counts == {
        "the summary is empty": 1,
        "the post is empty": 1,
        "an id for the second time": 1,
        "'label' is empty": 1,
    }
    assert str(skipped).startswith("4 rows skipped: 1 the summary is empty (first: ")
    with caplog.at_level("WARNING"):
        assert len(TASK.load_posts(source, None, bad_rows="skip")) == 1
    assert "4 rows skipped" in caplog.text
    with pytest.raises(UserError, match=r"no usable row .*1 rows skipped"):
        TASK.load_posts(jsonl(tmp_path / "y.jsonl", rows[1]), None, bad_rows="skip")


def comparison(split: str, choice: int, **more: Any) -> dict[str, Any]:
    texts = [" a summary of the whole long post", " another one of it, and shorter"]
    return {
        "info": {"id": "t3_x", "post": "P.", "title": "T", "subreddit": "pets"},
        "summaries": [{"text": text, "policy": f"sup{n}", "note": "n"} for n, text in enumerate(texts)],
        "choice": choice,
        "worker": "w7",
        "batch": "batch9",
        "split": split,
        "extra": {"confidence": 8},
        **more,
    }


def test_openai_comparisons_keep_batch_confidence_and_worker(tmp_path: Path) -> None:
    article = {"id": "c1", "article": "Some news.", "site": "cnn", "title": "T"}
    rows = [comparison("train", 1), comparison("valid1", 0), comparison("valid1", 1, info=article, extra={})]
    jsonl(tmp_path / "batch9.json", *rows)
    pairs, counts = TASK.load_pairs(str(tmp_path), "valid1")
    assert counts == PairCounts(total=2, kept=2)
    first, second = pairs
    assert first.prompt == "SUBREDDIT: r/pets\nTITLE: T\nPOST: P.\nTL;DR:"
    assert (first.chosen, first.rejected) == ("a summary of the whole long post", "another one of it, and shorter")
    wanted = {"batch": "batch9", "confidence": 8, "worker": "w7", "policy_chosen": "sup0", "policy_rejected": "sup1"}
    assert wanted.items() <= first.extra.items()
    assert second.prompt == "Article:\n\nSome news.\n\nTL;DR:"
    assert second.chosen == "another one of it, and shorter" and "confidence" not in second.extra
    assert first.id != second.id
    with pytest.raises(UserError, match="column 'split' has: train, valid1"):
        TASK.load_pairs(str(tmp_path), "test")


def test_pairs_are_cleaned_and_counted(tmp_path: Path) -> None:
    def row(chosen: str, rejected: str) -> dict[str, str]:
        return {"prompt": "POST: p", "chosen": chosen, "rejected": rejected, "note": "n"}

    source = jsonl(
        tmp_path / "x.jsonl",
        row("TL;DR:  one two three four five", "TL;DR: five four three two one<|endoftext|>junk"),
        row("TL;DR: one two three four five", "one two three four five<|endoftext|>"),
        row("TL;DR: one two three four", "one two three four five"),
    )
    pairs, counts = TASK.load_pairs(source, "valid1")
    expected = Pair("valid1-1", "POST: p\nTL;DR:", "one two three four five", "five four three two one", {"note": "n"})
    assert pairs == [expected]
    assert counts == PairCounts(total=3, kept=1, identical=1, short=1)
    assert str(counts) == "1 of 3 pairs kept; dropped: 1 identical, 1 too short"


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"prompt": "p"}], r"posts need the columns prompt.label or .*found prompt.: .*--columns.label COLUMN"),
        ([{"prompt": "p", "label": "a"}, {"prompt": "q"}], "x.jsonl, line 2: no column 'label' .*columns: prompt"),
        ([{"prompt": 3, "label": "a"}], "line 1: 'prompt' is not text .a number"),
        ([{"prompt": "p", "label": "a", "id": 1}] * 2, "line 2: an id for the second time .'1', also at .*line 1"),
        ([{"prompt": "p", "chosen": "a", "rejected": "b"}], "holds pairs .*posts are needed"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TASK.load_posts(jsonl(tmp_path / "x.jsonl", *rows), "train")


def test_a_split_without_usable_pairs_is_an_error(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "chosen": "a", "rejected": "b"})
    with pytest.raises(UserError, match=r"no usable pair .0 of 1 pairs kept"):
        TASK.load_pairs(source, "train")
    with pytest.raises(UserError, match="limit must be at least 1"):
        TASK.load_pairs(source, "train", limit=0)


def test_tasks_by_name() -> None:
    assert get_task("tldr").gold_score is None
    assert get_task("miniature").gold_score is not None
    with pytest.raises(UserError, match="did you mean 'tldr'"):
        get_task("tdlr")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_real_tldr_rows(shared: Shared, split: str) -> None:
    posts = TASK.load_posts(str(shared("openai_summarize_fixture") / "tldr"), split)
    assert len(posts) == 50
    assert all(post.prompt.endswith("\n" + PROMPT_END) and post.post and post.summary for post in posts)
    assert all(post.prompt.count("\nTITLE: ") == 1 for post in posts)


@pytest.mark.parametrize("split", ["train", "valid1", "valid2", "test"])
def test_real_comparisons_lose_prefix_and_stray_tails(shared: Shared, split: str) -> None:
    pairs, counts = TASK.load_pairs(str(shared("openai_summarize_fixture") / "comparisons"), split)
    assert counts.total == 50 and counts.kept == len(pairs)
    for pair in pairs:
        assert pair.prompt.endswith("\n" + PROMPT_END)
        for text in (pair.chosen, pair.rejected):
            assert "TL;DR" not in text and "<|endoftext|>" not in text and "Citizens for" not in text


def test_real_raw_posts(shared: Shared) -> None:
    posts = TASK.load_posts(str(shared("reddit_tldr_2013")), "valid", limit=200)
    assert len(posts) == 200 and posts[0].id == "t3_1aw2sv"
    assert posts[0].prompt.startswith("SUBREDDIT: r/24hoursupport\nTITLE: Turtle Beach X12 bass pops")
    assert "created_utc" in posts[0].extra
