from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from tasks.gold import gold_score, invented
from tasks.miniature import SPLITS, ModelSize, PostsOptions, check_leakage, main, make_splits, write_posts
from tasks.miniature_situations import situations
from tasks.miniature_text import REFERENCE_KINDS, perfect_summary, restore
from tasks.registry import get_task
from trlx.utils.errors import UserError

SIZES = {"sft_train": 900, "rm_posts": 100, "test": 100}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    return make_splits(SIZES, seed=3)


def test_there_are_enough_different_situations() -> None:
    every = situations()
    assert len({item.subreddit for item in every}) >= 20
    assert len({(item.event, item.wish) for item in every}) == len(every) >= 300
    assert len({item.key for item in every}) >= 100 and len({item.wish for item in every}) >= 50
    assert len({item.id for item in every}) == len(every)
    # A post's words must tell its facts apart: no event or wish is part of another.
    phrases = sorted({item.key for item in every} | {item.wish for item in every})
    assert [(a, b) for a in phrases for b in phrases if a != b and a in b] == []


def test_tables_hold_no_slot_values() -> None:
    for item in situations():
        assert not invented([], f"{item.key} {item.wish} r/{item.subreddit}"), item


def test_posts_are_tldr_prompts_with_every_situation(splits: dict[str, list[Row]]) -> None:
    for row in splits["sft_train"]:
        assert re.fullmatch(r"SUBREDDIT: r/\w+\nTITLE: [^\n]+\nPOST: [^\x00]+\nTL;DR:", row["prompt"])
        assert row["label"][0].isupper() and "\n" not in row["label"]
    assert {row["situation"] for row in splits["sft_train"]} == {item.id for item in situations()}


def test_the_same_seed_gives_the_same_posts(splits: dict[str, list[Row]]) -> None:
    assert make_splits(SIZES, seed=3) == splits
    assert make_splits({"test": 5}, seed=4) != make_splits({"test": 5}, seed=5)


def test_a_split_at_the_end_leaves_the_others_as_they_were(splits: dict[str, list[Row]]) -> None:
    with_second = make_splits({**SIZES, "second_posts": 50}, seed=3)
    assert len(with_second.pop("second_posts")) == 50 and with_second == splits
    assert SPLITS[-1] == "second_posts"


def test_references_vary_and_the_commonest_leaves_out_most(splits: dict[str, list[Row]]) -> None:
    gold = [gold_score(row["facts"], row["label"]) for row in splits["sft_train"]]
    assert statistics.median(gold) < 0.7 and max(gold) == 1.0
    assert 0.05 < sum(score > 0.999 for score in gold) / len(gold) < 0.2
    wrong = sum(bool(invented(row["facts"], row["label"])) for row in splits["sft_train"]) / len(gold)
    assert 0.04 < wrong < 0.12
    assert sum(REFERENCE_KINDS.values()) == pytest.approx(1.0) and REFERENCE_KINDS["short"] > 0.5


def test_leakage_is_found_across_and_within_splits(splits: dict[str, list[Row]]) -> None:
    check_leakage(splits)
    copied = {**splits["test"][7], "id": "copy", "prompt": "another wording"}
    with pytest.raises(UserError, match="leakage: test-7 and copy are the same post"):
        check_leakage({**splits, "ppo_train": [copied]})
    with pytest.raises(UserError, match="leakage: test-7 and copy"):
        check_leakage({"test": [*splits["test"], copied]})
    same_text = {**splits["test"][7], "id": "copy", "slots": {}}
    with pytest.raises(UserError, match="leakage"):
        check_leakage({**splits, "ppo_train": [same_text]})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run folder: posts of every split, tokenizer and random model."""
    folder = tmp_path_factory.mktemp("miniature") / "run"
    size = ModelSize(vocab_size=3000, layers=2, hidden=32, heads=2, window=16, max_positions=256)
    few = {split: 60 for split in SPLITS}
    write_posts(PostsOptions(root=str(folder), seed=2, model=size, **{**few, "sft_train": 1500}))  # type: ignore[arg-type]
    return folder


def test_the_command_writes_what_the_stages_read(root: Path) -> None:
    task = get_task("miniature")
    assert task.gold_score is not None
    for split in SPLITS:
        posts = task.load_posts(str(root / "data"), split)
        assert len(posts) == (1500 if split == "sft_train" else 60)
        for post in posts[:20]:
            draft = restore(post.extra["situation"], post.extra["slots"])
            assert task.gold_score(post.extra["facts"], perfect_summary(draft), True) == pytest.approx(1.0)


def test_lengths_in_tokens(root: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    posts = get_task("miniature").load_posts(str(root / "data"), "sft_train")
    lengths = [len(tokenizer(post.prompt)["input_ids"]) for post in posts]
    assert min(lengths) >= 55 and max(lengths) <= 200 and 1500 < len(tokenizer) <= 3000
    responses = [len(tokenizer(" " + post.summary)["input_ids"]) + 1 for post in posts]
    assert min(responses) >= 10 and max(responses) <= 48 and 15 < statistics.mean(responses) < 30


def test_an_older_run_is_kept(root: Path) -> None:
    before = (root / "data" / "test.jsonl").read_bytes()
    with pytest.raises(UserError, match="data exists already: add --overwrite"):
        write_posts(PostsOptions(root=str(root)))
    assert (root / "data" / "test.jsonl").read_bytes() == before


def test_a_command_is_needed() -> None:
    with pytest.raises(UserError, match="give a command"):
        main([])
